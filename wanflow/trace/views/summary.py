"""The summary on a terminal."""

from __future__ import annotations

from rich.console import Console

from wanflow.terminal.layout import Column, command, duration, flow, quote, size, table
from wanflow.terminal.safe import printable
from wanflow.trace.summary import StageSummary, Summary
from wanflow.units import format_bytes, format_seconds

_NOTE_LENGTH = 300
_HELD_UP_SHARE = 0.01


def _wall(stage: StageSummary) -> str:
    return "-" if stage.state == "not started" else format_seconds(stage.seconds)


_COLUMNS = (
    Column("stage", lambda s: printable(s.stage) or "(run)", justify="left"),
    Column("wall", _wall),
    Column("compute", lambda s: format_seconds(s.compute_seconds)),
    Column("waiting", lambda s: format_seconds(s.waited_seconds)),
    Column("moved in", lambda s: format_bytes(s.moved_in_bytes)),
    Column("moved out", lambda s: format_bytes(s.moved_out_bytes)),
    Column("peak", lambda s: format_bytes(s.whole_peak_bytes)),
    Column("share", lambda s: f"{s.share:.0%}"),
    Column("moves", lambda s: str(s.moves)),
    Column("steps", lambda s: f"{s.steps}/{s.steps_total}" if s.steps_total else ""),
    Column("knobs", lambda s: printable(" ".join(s.knobs)), justify="left"),
)


def render_summary(summary: Summary, console: Console) -> None:
    """Print *summary*: head, table of stages, peak, what to do next. Fits any width."""
    flow(console, _head(summary))
    flow(console, _memory(summary), style="bold red" if summary.over_budget_bytes else "")
    if summary.stages:
        console.print(table(summary.stages, _COLUMNS, console.width))
    for parts in (_peak(summary), _waiting(summary), _retries(summary)):
        flow(console, parts)
    for note in summary.notes[-3:]:
        flow(console, [f"note: {printable(note.topic)}: {printable(note.text[:_NOTE_LENGTH])}"])
    if summary.state != "whole":
        flow(console, _ending(summary), style="bold")
    command(console, _hint(summary))


def _head(summary: Summary) -> list[str]:
    end = summary.status or "unfinished"
    took = duration(summary.seconds)
    if summary.predicted_seconds:
        off = summary.seconds / summary.predicted_seconds - 1
        took += f" (predicted {duration(summary.predicted_seconds)}, {off:+.0%})"
    where = [f"on {printable(summary.device)}"] if summary.device else []
    simulated = ["simulated"] if summary.simulated else []
    length = f"{summary.events:,} events, {size(summary.file_bytes)}"
    name = printable(summary.graph or "unnamed graph")
    return [" ".join([name, *where]), printable(end), *simulated, took, length]


def _memory(summary: Summary) -> list[str]:
    parts = []
    if summary.budget_bytes is not None:
        parts.append(f"budget {size(summary.budget_bytes)}")
    if summary.predicted_peak_bytes is not None:
        parts.append(f"predicted peak {size(summary.predicted_peak_bytes)}")
    if summary.measured_peak_bytes is not None:
        measured = size(summary.measured_peak_bytes)
        parts.append(f"measured peak {measured} ({measured_by(summary)})")
    elif not summary.simulated:
        parts.append("peak not measured")
    return [*parts, *_verdict(summary)]


def measured_by(summary: Summary) -> str:
    """Say who measured, and what is in it beside what it counts."""
    beside, source = summary.measured_beside_bytes, str(summary.measured_source)
    if not beside:
        return source
    what = "beside it on the card" if summary.measured_with_others else "beside it"
    return f"{source}, {format_bytes(beside)} {what}"


def _verdict(summary: Summary) -> list[str]:
    over = summary.over_budget_bytes
    if over is None:
        return []
    return [f"over budget by {size(over)}" if over else "within budget"]


def _peak(summary: Summary) -> list[str]:
    peak = summary.peak
    if peak is None:
        return []
    held = [f"{name} {size(nbytes)}" for name, nbytes in peak.by_kind.words().items()]
    if summary.overhead_bytes:
        held.append(f"set aside {size(summary.overhead_bytes)}")
    most, at = size(summary.whole_peak_bytes), duration(peak.at_seconds)
    start = f"peak {most} on {printable(peak.tier)} in {printable(peak.stage)} at {at}:"
    return [start, *held]


def _waiting(summary: Summary) -> list[str]:
    waited = sum(stage.waited_seconds for stage in summary.stages)
    if waited == 0 or summary.seconds == 0:
        return []
    worst = max(summary.stages, key=lambda stage: stage.waited_seconds)
    share = waited / summary.seconds
    start = f"waited for transfers {duration(waited)} ({share:.1%})"
    return [start, f"most in {printable(worst.stage)}"]


def _retries(summary: Summary) -> list[str]:
    """A plan that makes the allocator ask the driver again is too tight for it, and slow."""
    if not summary.alloc_retries and not summary.alloc_failures:
        return []
    again = f"the allocator asked the driver again {summary.alloc_retries:,} times"
    return [again, f"{summary.alloc_failures:,} times in vain"]


def _ending(summary: Summary) -> list[str]:
    lost = f"{summary.events:,} events read, {summary.lost_bytes:,} bytes lost"
    return [f"this trace is {summary.state}:", lost, printable(summary.problem)]


def _hint(summary: Summary) -> str:
    """Name the next command. Names are quoted: a trace may come from anybody."""
    start = f"wanflow trace events {quote(str(summary.path or 'TRACE'))}"
    waited = max(summary.stages, key=lambda stage: stage.waited_seconds, default=None)
    if waited and waited.stage and waited.waited_seconds > _HELD_UP_SHARE * summary.seconds:
        return f"{start} --stage {quote(waited.stage)} --kind weights"
    return start
