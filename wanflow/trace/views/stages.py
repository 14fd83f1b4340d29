"""The stages with what their peaks are made of, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from wanflow.terminal.layout import Column, table
from wanflow.terminal.safe import printable
from wanflow.trace.by_kind import KINDS, WORDS
from wanflow.trace.stage_peaks import StageLoad
from wanflow.units import format_bytes, format_seconds


def _held(kind: str) -> Column:
    title = "slack" if kind == "slack" else WORDS[kind]
    return Column(title, lambda s: format_bytes(s.by_kind[kind]))


def _wall(load: StageLoad) -> str:
    started = load.summary.state != "not started"
    return format_seconds(load.summary.seconds) if started else "-"


_COLUMNS = (
    Column("stage", lambda s: printable(s.summary.stage) or "(run)", justify="left"),
    Column("wall", _wall),
    Column("share", lambda s: f"{s.summary.share:.0%}"),
    Column("peak", lambda s: format_bytes(s.summary.whole_peak_bytes)),
    *map(_held, KINDS[:-1]),
    Column("waiting", lambda s: format_seconds(s.summary.waited_seconds)),
    Column("knobs", lambda s: printable(" ".join(s.summary.knobs)), justify="left"),
)


def render_stages(stages: Sequence[StageLoad], console: Console) -> None:
    """Print a row a stage: its time, and what lay on the budget's tier at its peak, by kind."""
    if stages:
        console.print(table(stages, _COLUMNS, console.width))
