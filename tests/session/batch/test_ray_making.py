"""When a batch on a cluster ends."""

import json

import attrs

from wanflow.session.batch.batch_folder import Book
from wanflow.session.batch.outcomes import Outcomes
from wanflow.session.batch.ray_batch import RayMaking
from wanflow.session.batch.row_queue import RowQueue
from wanflow.session.batch.rows_file import RowsFile


@attrs.define
class HalfACrew:
    """Two places as the cluster counts them; the second is one of a computer that is gone."""

    places = 2
    seats: list[int] = attrs.field(factory=list)
    answers: list[tuple] = attrs.field(factory=list)
    asked: int = 0

    def take_seat(self) -> int:
        self.seats.append(len(self.seats))
        return self.seats[-1]

    def ask(self, seat, about, method, *given) -> None:
        self.asked += 1
        assert self.asked < 20
        if seat == 0:
            answer = {"sees": True} if method == "about" else {"report": {"seconds": 1.0}}
            self.answers.append((seat, about, answer))

    def next_answer(self, seconds):
        return self.answers.pop(0) if self.answers else None


def test_does_not_wait_for_a_seat_without_a_row(tmp_path) -> None:
    """A worker that has no place yet is of no use once every row is made."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"seed": n}) for n in range(3)))
    queue = RowQueue(RowsFile.open(path), {}, frozenset({"prompt", "seed"}))
    book = Book(tmp_path, queue, "a-graph")
    crew = HalfACrew()
    RayMaking(Outcomes(book, None, keep_going=True), crew, lambda: None).make()
    assert crew.seats == [0, 1]
    assert book.counts()["done"] == 3
