"""A plan as a table a person can judge at a glance."""

from collections.abc import Iterator, Mapping
from shlex import join
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.table import Table

from wanflow.cli.render_caches import cache_lines
from wanflow.cli.render_notes import note_lines
from wanflow.cli.render_previews import preview_lines
from wanflow.terminal.layout import add_row, bare_table, line
from wanflow.terminal.safe import clean
from wanflow.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from wanflow.session import Request

Report = Mapping[str, Any]
_WIDE = 116  # columns from which the reasons stand beside the numbers
# The columns of words, and how wide they may grow; numbers are never cut. Together they fit in 80.
_WORDS = {"stage": 14, "op": 13, "where": 6, "how": 8, "fits": 4}


def render(report: Report, request: "Request | None", console: Console) -> None:
    """Print heading, stages, verdict, the budgets if swept, and what to type next, if anything."""
    line(console, _heading(report))
    for part in _stages(report, wide=console.width >= _WIDE):
        console.print(part)
    line(console, _verdict(report))
    for text in (*cache_lines(report), *preview_lines(report), *note_lines(report)):
        line(console, text, soft_wrap=True)
    if "sweep" in report:
        console.print(_sweep(report["sweep"]))
    if report["feasible"] and request is not None:
        line(console, f"next: {_next(request)}", soft_wrap=True)


def _heading(report: Report) -> str:
    exact = ", exact" if report.get("exact") else ""
    machine, device = report.get("machine"), report["device"]
    where = device if machine in (None, device) else f"{device} ({machine})"
    budget = format_bytes(report["budget_bytes"])
    limit = f", limited by {report['limited_by']}" if report.get("limited_by") else ""
    return f"{report['graph']} on {where}, budget {budget}{limit}{exact}"


def _stages(report: Report, *, wide: bool) -> Iterator[RenderableType]:
    """Give the table of stages, the reasons beside the numbers or, in little room, below them."""
    stages = report["stages"]
    table = _table("#", "stage", "op", "where", "how", "weights", "peak", "time")
    if wide:
        table.add_column("why", overflow="fold")
    for number, stage in enumerate(stages, 1):
        cells = (str(number), *_cells(stage, report["device"]))
        add_row(table, *cells, *([_why(stage)] if wide else []))
    yield table
    if wide or not any(map(_why, stages)):
        return
    reasons = _table("stage")
    reasons.add_column("why", overflow="fold")
    for stage in stages:
        if why := _why(stage):
            add_row(reasons, clean(stage["stage"]), why)
    yield reasons


def _table(*names: str) -> Table:
    table = bare_table()
    for name in names:
        if name in _WORDS:
            table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=_WORDS[name])
        else:
            table.add_column(name, no_wrap=True, justify="right")
    return table


def _cells(stage: Report, device: str) -> tuple[str, ...]:
    steps, weights = stage.get("steps") or 1, stage.get("weights_bytes") or 0
    return (
        clean(stage["stage"] + (f" x{steps}" if steps > 1 else "")),
        clean(stage["op"]),
        clean(str(stage.get("knobs", {}).get("where", device))),
        _how(stage),
        format_bytes(weights) if weights else "-",
        format_bytes(stage["peak_bytes"]),
        format_seconds(stage["seconds"]),
    )


def _how(stage: Report) -> str:
    weights, resident = stage.get("weights_bytes") or 0, stage.get("resident_weights_bytes") or 0
    if not weights:
        return "-"
    if resident >= weights:
        return "resident"
    return "streamed" if resident == 0 else f"{resident * 100 // weights}% kept"


def _why(stage: Report) -> str:
    knobs = [f"{k}={v}" for k, v in stage.get("knobs", {}).items() if k != "where"]
    reason = stage.get("why") or ""
    return clean(f"{reason} [{', '.join(knobs)}]".strip() if knobs else reason)


def _verdict(report: Report) -> str:
    peak, budget = report["predicted_peak_bytes"], report["budget_bytes"]
    highest = max(report["stages"], key=lambda s: s["peak_bytes"], default=None)
    at = f" at {highest['stage']}" if highest else ""
    share = f" ({peak / budget:.0%})" if budget else ""
    fits = "" if report["feasible"] else "does not fit: "
    sizes = f"smallest budget {format_bytes(report['minimum_bytes'])}"
    if report.get("resident_bytes"):
        sizes += f", everything resident {format_bytes(report['resident_bytes'])}"
    took = f"estimate {format_seconds(report['predicted_seconds'])} ({_rates(report)})"
    ident = f", plan {report['plan_id'][:8]}" if report.get("plan_id") else ""
    head = f"{fits}peak {format_bytes(peak)} of {format_bytes(budget)}{share}{at}"
    return "\n".join([head, sizes, *_bounds(report), took + ident])


def _bounds(report: Report) -> Iterator[str]:
    """Say how good the plan is: its lower bound, what runs ahead, what it takes of the host."""
    bound = report.get("bound_seconds")
    if bound:
        ahead = f", {report['depth']} loads ahead" if report.get("depth") else ""
        yield f"lower bound {format_seconds(bound)}, gap {report['gap_percent']:.1f}%{ahead}"
    if report.get("allocator_slack_bytes"):
        kind = "expandable" if report.get("expandable_segments") else "plain"
        slack = format_bytes(report["allocator_slack_bytes"])
        yield f"allocator slack {slack} of the peak, {kind} segments"
    if report.get("arenas"):
        blocks = [f"{name} {format_bytes(nbytes)}" for name, nbytes in report["arenas"].items()]
        yield f"weights lie in one block each: {', '.join(blocks)}"
    if report.get("rounding"):
        yield f"rounds by {', '.join(report['rounding'])}: the budget decides, --exact has none"
    if report.get("host_bytes"):
        ram = report.get("ram_bytes")
        of = f" of {format_bytes(ram)}" if ram else ""
        plain = "" if report.get("pinned_memory", True) else ", not pinned"
        yield f"host {format_bytes(report['host_bytes'])}{of} for weights on their way{plain}"


def _rates(report: Report) -> str:
    """Say what the seconds stand on, and how far off they may be where that is known."""
    sources = list(report.get("machine_sources", {}).values())
    if "probed" in sources:
        known = len(sources) - sources.count("estimate")
        return f"{known} of {len(sources)} rates measured, in short"
    if not report.get("estimates"):
        return "rates measured"
    percent = report.get("published_error_percent")
    if percent is None:
        return "rates estimated: run wanflow machine probe"
    better = ": run wanflow machine probe" if report.get("machine_guessed_from") else ""
    return f"+-{percent}%, published runs{better}"


def _sweep(rows: list[Report]) -> Table:
    table = _table("budget", "peak", "time", "fits")
    for row in rows:
        outcome = ("-", "-", "no")
        if row["feasible"]:
            peak = format_bytes(row["predicted_peak_bytes"])
            outcome = (peak, format_seconds(row["predicted_seconds"]), "yes")
        add_row(table, format_bytes(row["budget_bytes"]), *outcome)
    return table


def _next(request: "Request") -> str:
    words = ["wanflow", "run", request.graph]
    for name, value in request.inputs.items():
        words += ["-i", f"{name}={value}"]
    words += ["--vram", request.vram]
    words += ["--ram", request.ram] if request.ram else []
    words += ["--device", request.device] if request.device != "auto" else []
    for option, values in (
        ("--weights", request.weights),
        ("--precision", request.precision),
        ("--lora", request.loras),
        ("--set", request.settings),
        ("--pin", request.pins),
    ):
        for value in values:
            words += [option, value]
    words += ["--lora-partial"] if request.lora_partial else []
    words += ["--exact"] if request.exact else []
    words += _preview(request.preview_every)
    words += [] if request.prompt_cache else ["--no-prompt-cache"]
    return join(words if request.probe else [*words, "--no-probe"])


def _preview(every: int) -> list[str]:
    if every < 2:
        return ["--preview"] * every
    return ["--preview-every", str(every)]
