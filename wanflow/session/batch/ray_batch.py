"""Make rows on the seats of a Ray cluster: whoever is free takes the next, whoever dies loses it.

A row that was lost goes to another seat, from its last finished step, as its folder is seen by all.
One that was lost twice is set aside: it may be what kills.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from wanflow.errors import InputError, StageFailed, WanflowError
from wanflow.session.batch.batch_folder import Book
from wanflow.session.batch.making import WINDOW
from wanflow.session.batch.outcomes import Outcomes, ends_all
from wanflow.session.batch.ray_cluster import Crew, Death, cluster
from wanflow.session.batch.remote_seat import Answer, error_of
from wanflow.session.request import Request
from wanflow.session.running.job import plain_request

_LOSSES = 2  # after so many a row is set aside
_POLL_SECONDS = 0.2
_SEAT_SECONDS = 120.0  # how long none may come, when there is none
_LOOK_SECONDS = 2.0
_FALSE_STARTS = 3
_CPU_SHARE = 85  # percent of a computer's free memory that its seats get between them


@contextmanager
def crew_of(request: Request, folder: Path, address: str) -> Iterator[Crew]:
    """Join a cluster; a seat a GPU where it has some and the request does not rule them out."""
    with cluster(address) as ray:
        has_cards = ray.cluster_resources().get("GPU", 0) >= 1
        on_cards = has_cards and request.device != "cpu"
        if not on_cards and request.device.startswith("cuda"):
            raise InputError(
                f"--device {request.device}: the cluster has no GPU",
                hint="--device cpu",
                code="no-card",
            )
        device = "cuda" if on_cards else "cpu"
        asked = attrs.evolve(request, device=device, vram=_share(request, ray, on_cards=on_cards))
        crew = Crew(ray, on_cards, plain_request(asked), str(folder.resolve()))
        try:
            yield crew
        finally:
            crew.close()


def _share(request: Request, ray: object, *, on_cards: bool) -> str:
    """The budget of a seat: on a CPU each takes its part of what `auto` would give to one."""
    if on_cards or request.vram != "auto":
        return request.vram
    nodes = [n["Resources"].get("CPU", 0) for n in ray.nodes() if n["Alive"]]  # type: ignore[attr-defined]
    return f"{max(_CPU_SHARE // max(int(max(nodes, default=1)), 1), 1)}%"


@attrs.define
class RayMaking:
    """One batch on a crew."""

    outcomes: Outcomes
    crew: Crew
    stop: Callable[[], None]
    _ready: deque[int] = attrs.field(factory=deque, init=False)  # rows whose prompts are encoded
    _losses: dict[int, int] = attrs.field(factory=dict, init=False)
    _idle: list[int] = attrs.field(factory=list, init=False)
    _encoding: bool = attrs.field(default=False, init=False)
    _at_work: int = attrs.field(default=0, init=False)  # seats with a row or with prompts
    _false_starts: int = attrs.field(default=0, init=False)
    _seen: float = attrs.field(factory=time.monotonic, init=False)  # when a seat last was there
    _looked: float = attrs.field(factory=time.monotonic, init=False)

    @property
    def book(self) -> Book:
        """The batch's."""
        return self.outcomes.book

    def make(self) -> None:
        """Make what is missing."""
        missing = self.book.missing()
        token = self.book.folder / ".seen-by-all"
        token.touch()
        try:
            self._fill_seats(str(token))
            windows = iter(lambda: [*itertools.islice(missing, WINDOW)], [])
            waiting = next(windows, None)
            while waiting or self._ready or self._at_work:
                self.stop()
                if waiting and not self._encoding and self._idle and not self._ready:
                    self._encode(waiting)
                    waiting = next(windows, None)
                while self._ready and self._idle:
                    self._begin(self._ready.popleft())
                self._take(str(token))
        finally:
            token.unlink(missing_ok=True)

    def _fill_seats(self, token: str) -> None:
        """Start as many seats as there are places, no more than rows."""
        rows = sum(1 for _ in self.book.missing())
        for _ in range(min(self.crew.places, rows) - len(self.crew.seats)):
            self.crew.ask(self.crew.take_seat(), "about", "about", token)

    def _encode(self, window: list[int]) -> None:
        self.outcomes.encodes(len(window))
        rows = []
        for number in window:
            try:
                rows.append(self.book.queue.rows.read(number))
            except WanflowError as error:
                self.outcomes.failed(number, error)
        self._encoding = True
        self._at_work += 1
        self.crew.ask(self._idle.pop(), ("encode", window), "encode", rows)

    def _begin(self, number: int) -> None:
        if self.book.status(number) != "waiting":
            return
        rows, seats = sum(1 for _ in self.book.missing()), max(len(self.crew.seats), 1)
        self.outcomes.begins(number, self.book.seconds_a_row() * rows / seats)
        inputs = self.book.queue.rows.read(number)
        folder = str(self.book.row_folder(number).resolve())
        self._at_work += 1
        self.crew.ask(self._idle.pop(), number, "run", inputs, folder)

    def _take(self, token: str) -> None:
        """Take one answer, if one comes soon."""
        found = self.crew.next_answer(_POLL_SECONDS)
        if found is None:
            self._nobody_works(token)
            return
        seat, about, answer = found
        self._at_work -= about != "about"
        if isinstance(answer, Death):
            self._lost(about, answer)
            self._fill_seats(token)
            return
        self._idle.append(seat)
        match about:
            case "about":
                self._false_starts = 0
                self._check_folder(answer)
            case ("encode", list(window)):
                self._encoding = False
                self._check(answer)
                self._ready.extend(window)
            case int(number):
                self._ended(number, answer)

    def _lost(self, about: object, death: Death) -> None:
        match about:
            case "about":
                self._false_starts += 1
                if self._false_starts >= _FALSE_STARTS:
                    text = f"{_FALSE_STARTS} workers died at their start, last: {death.reason}"
                    raise StageFailed(text, code="no-workers")
            case ("encode", list(window)):  # each row encodes its own, should it kill again
                self._encoding = False
                self._ready.extend(window)
            case int(number):
                self._losses[number] = self._losses.get(number, 0) + 1
                if self._losses[number] < _LOSSES:
                    self.book.cut_short(number)
                    self._ready.appendleft(number)
                    return
                text = f"its worker died {_LOSSES} times, last: {death.reason}"
                self.outcomes.failed(number, StageFailed(text, code="worker-died"))

    def _ended(self, number: int, answer: Answer) -> None:
        error = error_of(answer)
        if error is None:
            self.outcomes.ended(number, answer["report"])
        else:
            self.outcomes.not_made(number, error)

    def _check(self, answer: Answer) -> None:
        error = error_of(answer)
        if error is not None and ends_all(error):
            raise error

    def _check_folder(self, answer: Answer) -> None:
        if not answer["sees"]:
            raise InputError(
                f"{self.book.folder}: is not seen by {answer['host']}",
                hint="--out a folder that all computers of the cluster share",
                code="not-shared",
            )

    def _nobody_works(self, token: str) -> None:
        """Look for a place that has come; StageFailed where none comes."""
        now = time.monotonic()
        if self._at_work or self._idle:
            self._seen = now
        if now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._fill_seats(token)
        if now - self._seen > _SEAT_SECONDS:
            raise StageFailed(
                f"the cluster had no place for a worker in {_SEAT_SECONDS:.0f} s",
                code="no-workers",
            )
