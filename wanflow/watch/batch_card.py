"""A batch in short, and its rows, as its folder tells them."""

from __future__ import annotations

from typing import Any

import attrs

from wanflow.files.run_files import BATCH, BATCH_REQUEST
from wanflow.trace.plain import count_in
from wanflow.watch.run_card import ENDED
from wanflow.watch.shown import shown, shown_text
from wanflow.watch.tree import Parts, json_in

STATUSES = ("waiting", "done", "failed", "running")


@attrs.frozen
class BatchCard:
    """What is known of a batch; rows by status are those that `batch.json` counts."""

    key: str
    parts: Parts
    name: str
    state: str
    graph: str
    began: float
    rows: int
    counts: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Give what the page is told."""
        return attrs.asdict(self, filter=lambda field, _: field.name != "parts")


def is_batch_folder(names: set[str]) -> bool:
    """Whether a folder with these names in it is a batch's."""
    return BATCH_REQUEST in names


def read_batch(folder: int, parts: Parts, key: str, began: float, *, running: bool) -> BatchCard:
    """Read what a batch's folder says of itself."""
    told = json_in(folder, BATCH)
    status = told.get("status")
    return BatchCard(
        key=key,
        parts=parts,
        name=shown_text("/".join(parts)),
        state="running" if running else status if status in ENDED else "killed",
        graph=shown_text(told.get("graph")),
        began=began,
        rows=count_in(told, "count") or 0,
        counts={name: count_in(told, name) or 0 for name in STATUSES},
    )


def read_rows(folder: int, first: int, most: int, status: str = "") -> tuple[int, list[Any]]:
    """Read rows of `batch.json`, from the *first* on and of one *status*; with how many there are.

    Each is what the file says of it: `row`, `status`, `folder`, `seconds`, `error`.
    """
    rows = json_in(folder, BATCH).get("rows")
    if not isinstance(rows, list):
        return 0, []
    wanted = [row for row in rows if isinstance(row, dict) and status in ("", row.get("status"))]
    return len(wanted), [shown(row) for row in wanted[first : first + most]]
