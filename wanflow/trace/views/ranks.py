"""The ranks of a run on several devices, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from wanflow.terminal.layout import Column, table
from wanflow.terminal.safe import printable
from wanflow.trace.summary import StageSummary, Summary
from wanflow.units import format_bytes, format_seconds

Ranked = tuple[int, Summary]


def render_ranks(ranks: Sequence[Summary], console: Console) -> None:
    """Print a row a rank, then each stage with a column a rank."""
    console.print(table([*enumerate(ranks)], _RANKS, console.width))
    names = list(dict.fromkeys(stage.stage for rank in ranks for stage in rank.stages))
    columns = [Column("stage", lambda name: printable(str(name)) or "(run)", justify="left")]
    columns += [_column(number, rank) for number, rank in enumerate(ranks)]
    console.print(table(names, columns, console.width))


_RANKS = (
    Column("rank", lambda ranked: f"{ranked[0]} on {printable(ranked[1].device or '')}", "left"),
    Column("wall", lambda ranked: format_seconds(ranked[1].seconds)),
    Column("budget", lambda ranked: _size(ranked[1].budget_bytes)),
    Column("planned", lambda ranked: _size(ranked[1].predicted_peak_bytes)),
    Column("measured", lambda ranked: _size(ranked[1].measured_peak_bytes)),
    Column(
        "waiting", lambda ranked: format_seconds(sum(s.waited_seconds for s in ranked[1].stages))
    ),
    Column("exchanging", lambda ranked: format_seconds(ranked[1].exchanging_seconds)),
)


def _size(nbytes: int | None) -> str:
    return "-" if nbytes is None else format_bytes(nbytes)


def _column(number: int, rank: Summary) -> Column:
    stages = {stage.stage: stage for stage in rank.stages}
    return Column(f"rank {number}", lambda name: _cell(stages.get(name)))


def _cell(stage: StageSummary | None) -> str:
    if stage is None:
        return "-"
    return f"{format_bytes(stage.whole_peak_bytes)} {format_seconds(stage.seconds)}"
