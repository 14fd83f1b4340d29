"""Make rows one after another on one seat: the prompts of a window of them, then each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import attrs

from wanflow.errors import WanflowError
from wanflow.session.batch import text_pass
from wanflow.session.batch.outcomes import Outcomes, ends_all
from wanflow.session.batch.seat import Seat
from wanflow.session.preparing.prepared import Prepared
from wanflow.trace import TraceSink

WINDOW = 64  # rows whose prompts are encoded in one pass


@attrs.define
class Making:
    """One batch on one seat."""

    outcomes: Outcomes
    seat: Seat
    sink: TraceSink | None
    stop: Callable[[], None]

    def make(self) -> None:
        """Make what is missing, a window of rows after another."""
        book = self.outcomes.book
        missing = book.missing()
        left = sum(1 for _ in book.missing())
        while window := [*itertools.islice(missing, WINDOW)]:
            prepared = {n: row for n in window if (row := self._prepared(n)) is not None}
            self._encode(prepared)
            for number, row in prepared.items():
                self.stop()
                self.outcomes.begins(number, book.seconds_a_row() * left)
                self._row(number, row, last=left == 1)
                left -= 1
            left -= len(window) - len(prepared)
            text_pass.forget(book.folder)

    def _prepared(self, number: int) -> Prepared | None:
        try:
            return self.seat.prepare(self.outcomes.book.queue.rows.read(number))
        except WanflowError as error:
            self.outcomes.not_made(number, error)
            return None

    def _encode(self, rows: Mapping[int, Prepared]) -> None:
        """Encode the prompts of a window; what can't be is told by the row that needs it."""
        self.stop()
        if rows:
            self.outcomes.encodes(len(rows))
        try:
            self.seat.encode([*rows.values()], None)
        except WanflowError as error:
            if ends_all(error):
                raise

    def _row(self, number: int, row: Prepared, *, last: bool) -> None:
        book = self.outcomes.book
        try:
            fresh = text_pass.with_texts(row, book.folder)  # what was encoded since is there
            report = self.seat.run(fresh, book.row_folder(number), self.sink, last=last)
        except WanflowError as error:
            self.outcomes.not_made(number, error)
        else:
            self.outcomes.ended(number, report)
