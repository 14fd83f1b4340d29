"""A plan on several devices, and why it is as it is."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from wanflow.cli.render_caches import cache_lines
from wanflow.cli.render_notes import note_lines
from wanflow.terminal.layout import add_row, bare_table, line
from wanflow.terminal.safe import clean
from wanflow.units import format_bytes, format_seconds

Report = Mapping[str, Any]
_COLUMNS = 4  # of ranks, in 80


def render(report: Report, console: Console) -> None:
    """Print the ranks side by side, the ways of sharing, and one device beside them."""
    exact = ", exact" if report["exact"] else ""
    line(console, f"{report['graph']} on {clean(report['devices'])}{exact}")
    console.print(_ranks(report["ranks"]))
    shown = _unlike(report["ranks"])
    console.print(_stages(shown[:_COLUMNS]))
    if len(shown) > _COLUMNS:
        line(console, f"{len(shown) - _COLUMNS} more ranks have seconds of their own: --json")
    for text in (*_verdict(report), *cache_lines(report), *note_lines(report)):
        line(console, text, soft_wrap=True)


def _ranks(rows: list[Report]) -> Table:
    table = _table("rank", "on", "budget", "peak", "exchanged", "exchanging", "time")
    for row in rows:
        where = row["device"] if row["machine"] in (None, row["device"]) else row["machine"]
        add_row(
            table, str(row["rank"]), clean(where), format_bytes(row["budget_bytes"]),
            format_bytes(row["predicted_peak_bytes"]) + ("" if row["feasible"] else " no"),
            format_bytes(row["exchanged_bytes"]), format_seconds(row["exchange_seconds"]),
            format_seconds(row["predicted_seconds"]),
        )  # fmt: skip
    return table


def _unlike(rows: list[Report]) -> list[Report]:
    """The first rank, and each that differs from the one before it."""
    return [row for n, row in enumerate(rows) if n == 0 or row["stages"] != rows[n - 1]["stages"]]


def _stages(shown: list[Report]) -> Table:
    """Each stage's peak and time, a column a rank."""
    table = _table("stage", *(f"rank {row['rank']}" for row in shown))
    for stage in shown[0]["stages"]:
        cells = []
        for row in shown:
            own = next((s for s in row["stages"] if s["stage"] == stage["stage"]), None)
            cells.append(
                f"{format_bytes(own['peak_bytes'])}  {format_seconds(own['seconds'])}"
                if own
                else "-"
            )
        add_row(table, clean(stage["stage"]), *cells)
    return table


def _verdict(report: Report) -> Iterator[str]:
    yield f"shared by {_way(report)}: {format_seconds(report['predicted_seconds'])}"
    for row in report["shares"]:
        if (row["share"], row["decode"]) != (report["share"], report["decode"]):
            took = format_seconds(row["predicted_seconds"])
            fits = "" if row["feasible"] else ", which does not fit"
            yield f"by {_way(row)} {took}{fits}"
    yield _alone(report["alone"], report["predicted_seconds"])


def _way(row: Report) -> str:
    """What denoises is shared by, and what decodes where all ranks do."""
    return str(row["share"]) + ("" if row["decode"] == "first" else ", strips")


def _alone(alone: Report, seconds: float) -> str:
    if not alone["feasible"]:
        least = format_bytes(alone["minimum_bytes"])
        return f"one of them alone can't hold it: {least} are needed"
    took = alone["predicted_seconds"]
    times = f"{took / seconds:.2f} times as fast" if seconds else ""
    word = f"together {times}" if took >= seconds else "which is faster than together"
    return f"one of them alone {format_seconds(took)}: {word}"


def render_explained(report: Report, console: Console) -> None:
    """Print what each way of sharing a stage exchanges, and the link at which it pays."""
    line(console, f"{report['stage']} of {report['graph']} on {clean(report['devices'])}")
    line(console, f"chosen: {_way(report)}; {report['why']}")
    table = _table("share", "sent", "exchanging", "stage", "whole", "pays from")
    for row in report["shares"]:
        even = row["even_rate"]
        add_row(
            table, _way(row), format_bytes(row["exchanged_bytes"]),
            format_seconds(row["exchange_seconds"]), format_seconds(row["stage_seconds"]),
            format_seconds(row["predicted_seconds"]) + ("" if row["feasible"] else " no"),
            "never" if even is None else f"{even / 1e9:.3g} GB/s",
        )  # fmt: skip
    console.print(table)
    rate = max(row["exchange_rate"] for row in report["shares"])
    line(console, f"a rank is sent {rate / 1e9:.3g} GB/s here; `pays from`: at less than that one "
         "device alone is as fast", soft_wrap=True)  # fmt: skip
    alone = report["alone"]
    took = format_seconds(alone["predicted_seconds"])
    line(console, f"one alone: {took}" if alone["feasible"] else "one alone can't hold it")


def _table(*names: str) -> Table:
    table = bare_table()
    for number, name in enumerate(names):
        table.add_column(name, no_wrap=True, justify="left" if number == 0 else "right")
    return table
