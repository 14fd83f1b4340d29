"""Two traces compared, on a terminal."""

from __future__ import annotations

from rich.console import Console

from wanflow.terminal.layout import Column, flow, table
from wanflow.terminal.safe import printable
from wanflow.trace.diff import Change, Diff, amount

_SHOWN = 20


def _delta(change: Change) -> str:
    return ("+" if change.delta > 0 else "-") + amount(abs(change.delta), change.unit)


def _ratio(change: Change) -> str:
    return "new" if change.ratio is None else f"{change.ratio:+.1%}"


_COLUMNS = (
    Column("stage", lambda c: printable(c.stage) or "(all)", justify="left"),
    Column("what", lambda c: c.what.replace("_", " "), justify="left"),
    Column("before", lambda c: amount(c.before, c.unit)),
    Column("after", lambda c: amount(c.after, c.unit)),
    Column("change", _delta),
    Column("share", _ratio),
)


def render_diff(diff: Diff, console: Console) -> None:
    """Print *diff*: the verdict, what is set differently, then what changed, most first."""
    flow(console, [f"{printable(diff.before)} -> {printable(diff.after)}"])
    flow(console, ["no difference" if diff.same else printable(diff.verdict)], style="bold")
    for setting in diff.settings:
        old, new = printable(setting.before) or "-", printable(setting.after) or "-"
        flow(console, [f"{printable(setting.what)}: {old} -> {new}"])
    shown = [change for change in diff.changes if _shows(change)][:_SHOWN]
    if shown:
        console.print(table(shown, _COLUMNS, console.width))
    if hidden := len(diff.changes) - len(shown):
        which = "smaller change" if hidden == 1 else "smaller changes"
        flow(console, [f"and {hidden} {which}: --json has all"])


def _shows(change: Change) -> bool:
    """Say whether before and after look different, as they are written."""
    return amount(change.before, change.unit) != amount(change.after, change.unit)
