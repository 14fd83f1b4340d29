"""What becomes of a row, told to all who want to know: the folder's book, and who watches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs

from wanflow.errors import Interrupted, StageFailed, WanflowError
from wanflow.files.whole import FREE_SPACE
from wanflow.session.batch.batch_folder import Book
from wanflow.trace import TraceSink

_OF_ALL = ("device-failed", "bad-until")


class RowWatch(Protocol):
    """Who is told of rows while they are made."""

    @property
    def sink(self) -> TraceSink | None:
        """What hears the events of the row that is made; it may have a `start` for its plan."""

    def opens(self, count: int) -> None:
        """So many rows are looked at."""

    def begins(self, number: int, left_seconds: float) -> None:
        """Row *number* begins, from 0; what is left takes about so long, 0 where nothing tells."""

    def encodes(self, rows: int) -> None:
        """The prompts of so many rows are encoded."""

    def ended(self, entry: Mapping[str, object]) -> None:
        """A row is made or has failed: what `batch.json` says of it."""


@attrs.frozen
class Outcomes:
    """One batch's. `keep_going`: rows after one that failed are made as well."""

    book: Book
    watch: RowWatch | None
    keep_going: bool

    def encodes(self, rows: int) -> None:
        """The prompts of so many rows are encoded."""
        if self.watch is not None:
            self.watch.encodes(rows)

    def begins(self, number: int, left_seconds: float) -> None:
        """A row begins; all that are left take about so long."""
        if self.watch is not None:
            self.watch.begins(number, left_seconds)
        self.book.running(number)

    def ended(self, number: int, report: Mapping[str, object]) -> None:
        """A row was run, to its end or as far as it was asked to."""
        self.book.ended(number, report)
        self._tell(number)

    def failed(self, number: int, error: WanflowError) -> None:
        """A row could not be made; StageFailed where that ends the batch."""
        self.book.failed(number, error)
        self._tell(number)
        if not self.keep_going:
            line = self.book.queue.rows.line(number)
            raise StageFailed(
                f"row {number + 1} (line {line}): {error.message}", hint=error.hint, code=error.code
            )

    def not_made(self, number: int, error: WanflowError) -> None:
        """A row failed; raises *error* itself where the next row would meet the same."""
        if ends_all(error):
            self.book.cut_short(number)
            raise error
        self.failed(number, error)

    def _tell(self, number: int) -> None:
        if self.watch is not None:
            self.watch.ended(self.book.entry(number))
        self.book.write_now_and_then()


def ends_all(error: WanflowError) -> bool:
    """Whether the next row would meet the same: no room on the disk, no card, the user's wish."""
    full = error.hint.startswith(FREE_SPACE)
    return full or error.code in _OF_ALL or isinstance(error, Interrupted)
