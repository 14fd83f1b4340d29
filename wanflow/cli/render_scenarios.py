"""Scenarios as a table, and below it what does not hold."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from wanflow.terminal.layout import Column, line, table
from wanflow.terminal.safe import clean
from wanflow.units import format_bytes, format_seconds

Row = Mapping[str, Any]


def render(rows: Sequence[Row], console: Console) -> None:
    """Print a line a scenario, then every expectation that does not hold, with its numbers."""
    console.print(table(rows, _COLUMNS, console.width, grow=True))
    for row in rows:
        for verdict in row["verdicts"]:
            if not verdict["holds"]:
                line(console, f"{row['scenario']}: {verdict['text']}", soft_wrap=True)
        if not row["holds"] and row["message"]:
            line(console, f"{row['scenario']}: {row['message']}", soft_wrap=True)
    held = sum(row["holds"] for row in rows)
    line(console, f"{held} of {len(rows)} hold")


def _outcome(row: Row) -> str:
    """Say whether all holds; of what is meant to fail how it failed."""
    failed = f" (exit {row['exit_code']})" if row["exit_code"] else ""
    return ("yes" if row["holds"] else "NO") + failed


def _size(row: Row, *names: str) -> str:
    return next((format_bytes(row[name]) for name in names if row[name] is not None), "-")


def _seconds(row: Row) -> str:
    found = row["predicted_seconds"] if row["seconds"] is None else row["seconds"]
    return "-" if found is None else format_seconds(found)


_COLUMNS = (
    Column("scenario", lambda row: clean(row["scenario"]), "left"),
    Column("did", lambda row: row["did"], "left"),
    Column("holds", _outcome, "left"),
    Column("peak", lambda row: _size(row, "peak_bytes", "predicted_peak_bytes")),
    Column("budget", lambda row: _size(row, "budget_bytes")),
    Column("time", _seconds),
    Column("minimum", lambda row: _size(row, "minimum_bytes")),
)
