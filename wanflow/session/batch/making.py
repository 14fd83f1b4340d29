"""Make rows one after another on one seat: the prompts of a window of them, then each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs

from wanflow.errors import Interrupted, StageFailed, WanflowError
from wanflow.files.whole import FREE_SPACE
from wanflow.session.batch import text_pass
from wanflow.session.batch.batch_folder import Book
from wanflow.session.batch.seat import Seat
from wanflow.session.preparing.prepared import Prepared
from wanflow.trace import TraceSink

WINDOW = 64  # rows whose prompts are encoded in one pass


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


@attrs.define
class Making:
    """One batch on one seat."""

    book: Book
    seat: Seat
    watch: RowWatch | None
    stop: Callable[[], None]
    keep_going: bool

    def make(self) -> None:
        """Make what is missing, a window of rows after another."""
        missing = self.book.missing()
        left = sum(1 for _ in self.book.missing())
        while window := [*itertools.islice(missing, WINDOW)]:
            prepared = {n: row for n in window if (row := self._prepared(n)) is not None}
            self._encode(prepared)
            for number, row in prepared.items():
                left_seconds = self.book.seconds_a_row() * left
                self._row(number, row, left_seconds, last=left == 1)
                left -= 1
            left -= len(window) - len(prepared)
            text_pass.forget(self.book.folder)

    def _prepared(self, number: int) -> Prepared | None:
        try:
            return self.seat.prepare(self.book.queue.rows.read(number))
        except WanflowError as error:
            self._failed(number, error)
            return None

    def _encode(self, rows: Mapping[int, Prepared]) -> None:
        """Encode the prompts of a window; what can't be is told by the row that needs it."""
        self.stop()
        if self.watch is not None and rows:
            self.watch.encodes(len(rows))
        try:
            self.seat.encode([*rows.values()], None)
        except WanflowError as error:
            if ends_all(error):
                raise

    def _row(self, number: int, row: Prepared, left_seconds: float, *, last: bool) -> None:
        self.stop()
        if self.watch is not None:
            self.watch.begins(number, left_seconds)
        self.book.running(number)
        sink = self.watch.sink if self.watch is not None else None
        try:
            fresh = text_pass.with_texts(row, self.book.folder)  # what was encoded since is there
            report = self.seat.run(fresh, self.book.row_folder(number), sink, last=last)
        except WanflowError as error:
            if ends_all(error):
                self.book.stopped(number)
                raise
            self._failed(number, error)
        else:
            self.book.done(number, report)
            self._ended(number)

    def _failed(self, number: int, error: WanflowError) -> None:
        self.book.failed(number, error)
        self._ended(number)
        if not self.keep_going:
            line = self.book.queue.rows.line(number)
            raise StageFailed(
                f"row {number + 1} (line {line}): {error.message}", hint=error.hint, code=error.code
            )

    def _ended(self, number: int) -> None:
        if self.watch is not None:
            self.watch.ended(self.book.entry(number))
        self.book.write_now_and_then()


def ends_all(error: WanflowError) -> bool:
    """Whether the next row would meet the same: no room on the disk, no card, the user's wish."""
    full = error.hint.startswith(FREE_SPACE)
    return full or error.code == "device-failed" or isinstance(error, Interrupted)
