"""CSV: one row for every change of what a tier holds."""

from __future__ import annotations

import csv
import io
from typing import BinaryIO

from wanflow.terminal.safe import printable
from wanflow.trace.events import Kind, Memory, Move
from wanflow.trace.exports.follow import KINDS, Follower, LevelChange
from wanflow.trace.reader import TraceReader

COLUMNS = (
    "at_ns", "tier", "event", "kind", "name", "stage", "step", "nbytes", "resident_bytes",
    *(f"{kind}_bytes" for kind in KINDS), "cause",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@")  # a spreadsheet would compute what starts like this


def write_csv(reader: TraceReader, out: BinaryIO) -> int:
    """Write the rows as they stream by; return how many."""
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    rows, follower = csv.writer(text, lineterminator="\n"), Follower()
    rows.writerow(COLUMNS)
    count = 0
    for event in reader:
        for change in follower.see(event):
            rows.writerow(_row(change))
            count += 1
        if isinstance(event, Memory):
            words = (cell(event.tier), "measured", "", cell(event.source), "", "", "")
            rows.writerow((event.at_ns, *words, event.now_bytes, *[""] * 7))
            count += 1
    text.detach()
    return count


def cell(text: str) -> str:
    """Make a name safe for a spreadsheet: one line, and never a formula."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _row(change: LevelChange) -> tuple[object, ...]:
    event, level = change.event, change.level
    moved = isinstance(event, Move)
    kind, cause = (event.kind, event.cause) if isinstance(event, Move) else (Kind.WORKSPACE, "")
    return (
        level.at_ns, cell(level.tier), change.what, str(kind), cell(event.name),
        cell(event.stage), event.step, event.nbytes, level.resident_bytes,
        *(level.by_kind[kind] for kind in KINDS), cell(cause) if moved else "",
    )  # fmt: skip
