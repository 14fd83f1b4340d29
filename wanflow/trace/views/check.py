"""The audit on a terminal."""

from __future__ import annotations

from rich.console import Console

from wanflow.terminal.layout import Column, flow, table
from wanflow.terminal.safe import printable
from wanflow.trace.check import Checked
from wanflow.units import format_bytes

_OF_THE_FILE = ("file", "dropped")
_COLUMNS = (
    Column("tier", lambda a: printable(a.tier), justify="left"),
    Column("came", lambda a: format_bytes(a.came_bytes)),
    Column("left", lambda a: format_bytes(a.left_bytes)),
    Column("there now", lambda a: format_bytes(a.resident_bytes)),
    Column("peak", lambda a: format_bytes(a.peak_bytes)),
)


def render_check(audit: Checked, console: Console) -> None:
    """Print what the audit found: the books of each tier, then what is wrong, then one line."""
    if audit.tiers:
        console.print(table(audit.tiers, _COLUMNS, console.width))
    for problem in audit.problems:
        where = "" if problem.code in _OF_THE_FILE else f"record {problem.record}: "
        flow(console, [f"{problem.code}: {where}{printable(problem.text)}"], style="bold red")
    if hidden := audit.problem_count - len(audit.problems):
        flow(console, [f"and {hidden:,} more"])
    flow(console, [_verdict(audit), f"{audit.events:,} events", printable(audit.status or "")])


def _verdict(audit: Checked) -> str:
    if audit.ok:
        return "ok: the file is whole, what came less what left is what is there, within budget"
    return f"{audit.problem_count:,} problem" + ("s" if audit.problem_count > 1 else "")
