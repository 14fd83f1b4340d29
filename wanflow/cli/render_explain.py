"""Why a stage is planned as it is, on one page."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from wanflow.cli.render_caches import cache_lines, step_table
from wanflow.cli.render_previews import preview_lines
from wanflow.terminal.layout import add_row, bare_table, line
from wanflow.terminal.safe import clean
from wanflow.units import format_bytes, format_seconds

Report = Mapping[str, Any]


def render(report: Report, console: Console) -> None:
    """Print what was chosen, what it beat, what fills the peak, what would change it."""
    for text in _head(report):
        line(console, text)
    console.print(_considered(report))
    console.print(_peak(report["at_peak"]))
    if loads := _loads(report["loading"]):
        line(console, loads)
    console.print(_changes(report))
    for text in preview_lines({"stages": [report["stage"]]}):
        line(console, text, soft_wrap=True)
    if report["stage"].get("cache"):
        for text in cache_lines({"stages": [report["stage"]]}):
            line(console, text, soft_wrap=True)
        console.print(step_table(report["stage"]))


def _head(report: Report) -> Iterator[str]:
    stage = report["stage"]
    machine, device = report["machine"], report["device"]
    where = device if machine == device else f"{device} ({machine})"
    budget = format_bytes(report["budget_bytes"])
    yield f"{stage['stage']} ({stage['op']}) on {where}, budget {budget}"
    yield f"chosen: {report['why']}; {stage['why']}"
    took = f"{format_seconds(stage['seconds'])}, of it {format_seconds(stage['waiting_seconds'])}"
    rates = " (rates estimated)" if report.get("estimates") else ""
    yield f"takes {took} waiting for weights{rates}"


def _considered(report: Report) -> Table:
    """One row a candidate; the figures are the whole graph's, since stages share the budget."""
    rows = report["considered"]
    table = bare_table(title="considered, for the whole graph")
    table.add_column("knobs", no_wrap=True, overflow="ellipsis", max_width=26)
    for name in ("ahead", "stays", "peak", "time"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("fits", no_wrap=True)
    best = min((row["seconds"] for row in rows if row["chosen"]), default=None)
    for row in rows:
        add_row(
            table, _knobs(row["knobs"]), str(row["depth"]), format_bytes(row["resident_bytes"]),
            format_bytes(row["peak_bytes"]), format_seconds(row["seconds"]), _verdict(row, best),
        )  # fmt: skip
    return table


def _verdict(row: Report, best: float | None) -> str:
    if row["chosen"]:
        return "chosen" if row["fits"] else "no, smallest"
    if not row["fits"]:
        return "no"
    slower = row["seconds"] - best if best is not None else 0.0
    return f"+{format_seconds(slower)}" if slower >= 0.01 else "as fast"


def _knobs(knobs: Mapping[str, Mapping[str, str]]) -> str:
    said = [f"{s}.{name}={value}" for s, of in knobs.items() for name, value in of.items()]
    return clean(", ".join(said)) or "-"


def _peak(peak: Report) -> Table:
    table = bare_table("at its peak")
    table.columns[0].justify = "left"
    table.add_column(format_bytes(peak["nbytes"]), no_wrap=True, justify="right")
    table.add_column(clean(f"in {peak['kind']}, step {peak['step']}"), overflow="fold")
    for name, nbytes in sorted(peak["parts"].items(), key=lambda part: -part[1]):
        add_row(table, f"  {name}", format_bytes(nbytes), f"{nbytes / peak['nbytes']:.0%}")
    return table


def _loads(loading: Report) -> str:
    if not loading["loads"]:
        return ""
    moved, waited = format_bytes(loading["nbytes"]), format_seconds(loading["waiting_seconds"])
    hidden = f"{loading['hidden_percent']:.0f}% hidden behind compute, {waited} waited for"
    return f"{loading['loads']} loads, {moved}: {hidden}"


def _changes(report: Report) -> Table:
    """The budgets at which another plan would be made."""
    change, budget = report["would_change"], report["budget_bytes"]
    table = bare_table("would change")
    table.add_column("with --vram", no_wrap=True)
    table.add_column("", overflow="fold")
    table.columns[0].justify = "left"
    rows = [
        (change["minimum_bytes"], "below", f"nothing fits, for {change['minimum_cause']}"),
        (change["next_segment_bytes"], "from", "more of this stage stays"),
        (change["everything_stays_bytes"], "from", "everything stays"),
    ]
    for nbytes, word, what in rows:
        if nbytes is None or (word == "from" and nbytes <= budget):
            continue
        add_row(table, f"  {word} {format_bytes(nbytes)}", f"{nbytes}B", clean(what))
    return table
