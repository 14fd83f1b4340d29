"""The summary on a terminal. Rich lives here, so that reading a trace does not load it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import Literal

import attrs
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wanflow.trace.listing import printable
from wanflow.trace.summary import StageSummary, Summary
from wanflow.units import format_bytes, format_seconds

_GAP = 2
_NAME_CELLS, _NAME_CELLS_WIDE = 14, 24
_WORDS_CELLS = 14
_NOTE_LENGTH = 300
_HELD_UP_SHARE = 0.01
_TIE = "\xa0"


@attrs.frozen
class _Column:
    """A column of the table of stages: numbers stand right, words left."""

    title: str
    cell: Callable[[StageSummary], str]
    justify: Literal["left", "right"] = "right"


def _wall(stage: StageSummary) -> str:
    return "-" if stage.state == "not started" else format_seconds(stage.seconds)


_COLUMNS = (
    _Column("wall", _wall),
    _Column("compute", lambda s: format_seconds(s.compute_seconds)),
    _Column("waiting", lambda s: format_seconds(s.waited_seconds)),
    _Column("moved in", lambda s: format_bytes(s.moved_in_bytes)),
    _Column("moved out", lambda s: format_bytes(s.moved_out_bytes)),
    _Column("peak", lambda s: format_bytes(s.peak_bytes)),
    _Column("share", lambda s: f"{s.share:.0%}"),
    _Column("moves", lambda s: str(s.moves)),
    _Column("steps", lambda s: f"{s.steps}/{s.steps_total}" if s.steps_total else ""),
    _Column("knobs", lambda s: printable(" ".join(s.knobs)), justify="left"),
)


def render_summary(summary: Summary, console: Console) -> None:
    """Print *summary*: head, table of stages, peak, what to do next. Fits any width."""
    _flow(console, _head(summary))
    _flow(console, _memory(summary), style="bold red" if _over_bytes(summary) else "")
    if summary.stages:
        console.print(_table(summary.stages, console.width))
    for parts in (_peak(summary), _waiting(summary)):
        _flow(console, parts)
    for note in summary.notes[-3:]:
        _flow(console, [f"note: {printable(note.topic)}: {printable(note.text[:_NOTE_LENGTH])}"])
    if summary.state != "whole":
        _flow(console, _ending(summary), style="bold")
    # Never broken: a command is there to be copied.
    console.print(Text(f"hint: {_hint(summary)}"), soft_wrap=True)


def _head(summary: Summary) -> list[str]:
    end = summary.status or "unfinished"
    took = _time(summary.seconds)
    if summary.predicted_seconds:
        off = summary.seconds / summary.predicted_seconds - 1
        took += f" (predicted {_time(summary.predicted_seconds)}, {off:+.0%})"
    where = [f"on {printable(summary.device)}"] if summary.device else []
    simulated = ["simulated"] if summary.simulated else []
    size = f"{summary.events:,} events, {_size(summary.file_bytes)}"
    name = printable(summary.graph or "unnamed graph")
    return [" ".join([name, *where]), printable(end), *simulated, took, size]


def _memory(summary: Summary) -> list[str]:
    parts = []
    if summary.budget_bytes is not None:
        parts.append(f"budget {_size(summary.budget_bytes)}")
    if summary.predicted_peak_bytes is not None:
        parts.append(f"predicted peak {_size(summary.predicted_peak_bytes)}")
    if summary.measured_peak_bytes is not None:
        measured = _size(summary.measured_peak_bytes)
        parts.append(f"measured peak {measured} ({summary.measured_source})")
    elif not summary.simulated:
        parts.append("peak not measured")
    return [*parts, *_verdict(summary)]


def _verdict(summary: Summary) -> list[str]:
    if summary.budget_bytes is None:
        return []
    over = _over_bytes(summary)
    return [f"over budget by {_size(over)}" if over else "within budget"]


def _over_bytes(summary: Summary) -> int:
    if summary.budget_bytes is None:
        return 0
    top = max(summary.peak_bytes, summary.measured_peak_bytes or 0)
    return max(0, top - summary.budget_bytes)


def _table(stages: Sequence[StageSummary], width: int) -> Table:
    """Lay out as many columns, from the left, as *width* holds; no cell wraps."""
    longest = _NAME_CELLS if width < 100 else _NAME_CELLS_WIDE
    names = [_clip(printable(stage.stage) or "(run)", longest) for stage in stages]
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("stage", no_wrap=True)
    shown, room = [names], width - max(len("stage"), *map(cell_len, names))
    for column in _COLUMNS:
        cells = [column.cell(stage) for stage in stages]
        need = _cells_needed(column, cells)
        if column.justify == "left" and need > room >= _WORDS_CELLS:
            # Words may be cut where a number may not.
            cells, need = [_clip(cell, room - _GAP) for cell in cells], room
        if need > room:
            break
        room -= need
        shown.append(cells)
        table.add_column(column.title, justify=column.justify, no_wrap=True)
    for row in zip(*shown, strict=True):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _cells_needed(column: _Column, cells: Sequence[str]) -> int:
    return _GAP + max(cell_len(column.title), *map(cell_len, cells))


def _peak(summary: Summary) -> list[str]:
    peak = summary.peak
    if peak is None:
        return []
    kinds = {
        "weights": peak.weights_bytes,
        "values": peak.value_bytes,
        "states": peak.state_bytes,
        "workspace": peak.workspace_bytes,
        "allocator slack": peak.slack_bytes,
        "other": peak.other_bytes,
    }
    held = [f"{name} {_size(nbytes)}" for name, nbytes in kinds.items() if nbytes]
    size, at = _size(peak.resident_bytes), _time(peak.at_seconds)
    start = f"peak {size} on {printable(peak.tier)} in {printable(peak.stage)} at {at}:"
    return [start, *held]


def _waiting(summary: Summary) -> list[str]:
    waited = sum(stage.waited_seconds for stage in summary.stages)
    if waited == 0 or summary.seconds == 0:
        return []
    worst = max(summary.stages, key=lambda stage: stage.waited_seconds)
    share = waited / summary.seconds
    start = f"waited for transfers {_time(waited)} ({share:.1%})"
    return [start, f"most in {printable(worst.stage)}"]


def _ending(summary: Summary) -> list[str]:
    lost = f"{summary.events:,} events read, {summary.lost_bytes:,} bytes lost"
    return [f"this trace is {summary.state}:", lost, printable(summary.problem)]


def _hint(summary: Summary) -> str:
    """Name the next command. Names are quoted: a trace may come from anybody."""
    command = f"wanflow trace events {_quote(str(summary.path or 'TRACE'))}"
    waited = max(summary.stages, key=lambda stage: stage.waited_seconds, default=None)
    if waited and waited.stage and waited.waited_seconds > _HELD_UP_SHARE * summary.seconds:
        return f"{command} --stage {_quote(waited.stage)} --kind weights"
    return command


def _quote(text: str) -> str:
    return shlex.quote(printable(text))


def _clip(text: str, cells: int) -> str:
    return text if cell_len(text) <= cells else set_cell_size(text, cells - 2) + ".."


def _size(nbytes: int) -> str:
    return format_bytes(nbytes).replace(" ", _TIE)


def _time(seconds: float) -> str:
    return format_seconds(seconds).replace(" ", _TIE)


def _flow(console: Console, parts: Sequence[str], style: str = "") -> None:
    """Print *parts* on as few lines as hold them; a long part breaks, but never inside a number."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line else part
        if line and cell_len(longer) > console.width:
            _print(console, line, style)
            longer = "  " + part
        line = longer
    _print(console, line, style)


def _print(console: Console, line: str, style: str) -> None:
    # The tie is no white space to textwrap, which keeps a number beside its unit.
    for piece in wrap(line, console.width, subsequent_indent="  ", break_on_hyphens=False):
        console.print(Text(piece.replace(_TIE, " "), style=style))
