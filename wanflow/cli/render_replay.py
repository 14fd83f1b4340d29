"""A run planned again: the plan's table, and what it stands on."""

from rich.console import Console

from wanflow.cli.render_plan import Report
from wanflow.cli.render_plan import render as render_plan
from wanflow.terminal.layout import line
from wanflow.units import format_bytes, format_seconds


def render(report: Report, console: Console) -> None:
    """Print what was recorded, the new plan, and where its times come from."""
    line(console, _recorded(report["recorded"]), soft_wrap=True)
    render_plan(report, None, console)
    line(console, _times(report), soft_wrap=True)


def _recorded(recorded: Report) -> str:
    kind = "predicted" if recorded["simulated"] else "ran"
    text = f"recorded: on {recorded['machine']}, budget {format_bytes(recorded['budget_bytes'])}, "
    text += f"{kind} {format_seconds(recorded['seconds'])}"
    return f"{text}; the trace is {recorded['state']}" if recorded["problem"] else text


def _times(report: Report) -> str:
    if report["times"] == "rates":
        return "times: by the machine's rates"
    count, of = report["measured_calls"], report["calls"]
    return f"times: {count} calls as they were measured, {of} in the plan"
