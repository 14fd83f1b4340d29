"""What a rank's process is told, and what it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import attrs

from wanflow.errors import WanflowError
from wanflow.files.run_files import RANKS
from wanflow.session.ranks.devices import Seats
from wanflow.session.request import Request

_PLAIN = ("index", "threads", "exchange_rate", "ram_is_stated")


@attrs.frozen
class RankTask:
    """One rank's part of a run. All requests are there, with explicit budgets and knobs.

    `folder` is the run folder for the first, and one of its own in there for the others.
    """

    seats: Seats
    index: int
    folder: Path
    meeting: Path  # the file by which the ranks find each other
    threads: int  # of the processor
    exchange_rate: float  # bytes/s, the slowest rank's
    ram_is_stated: bool  # by the user; each request has its part in bytes

    @property
    def trace(self) -> str:
        """The rank's own trace, seen from its folder."""
        return f"{RANKS}/0.msgpack" if self.index == 0 else f"../{self.index}.msgpack"

    def to_json(self) -> str:
        """Write it as one line."""
        requests = [_plain(request) for request in self.seats.requests]
        about: dict[str, object] = {"folder": str(self.folder), "meeting": str(self.meeting)}
        about |= {name: getattr(self, name) for name in _PLAIN}
        return json.dumps({**about, "requests": requests, "kind": self.seats.kind})

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read what `to_json` wrote."""
        data = json.loads(line)
        seats = Seats(tuple(map(_request, data["requests"])), data["kind"])
        folder, meeting = Path(data["folder"]), Path(data["meeting"])
        plain = {name: data[name] for name in _PLAIN}
        return cls(seats=seats, folder=folder, meeting=meeting, **plain)


def _plain(request: Request) -> dict[str, Any]:
    inputs = {n: v if isinstance(v, int | float) else str(v) for n, v in request.inputs.items()}
    return {**attrs.asdict(request, recurse=False), "inputs": inputs}


def _request(fields: dict[str, Any]) -> Request:
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()}
    return Request(**values)


@attrs.frozen
class RankFailure:
    """An error as plain values: the classes of errors take more than their message."""

    exit_code: int
    message: str
    hint: str = ""
    code: str = ""

    @classmethod
    def of(cls, error: WanflowError) -> RankFailure:
        """Take an error apart."""
        return cls(error.exit_code, error.message, error.hint, error.code)


@attrs.frozen
class RankAnswer:
    """How a rank ended: the report of its run, or why there is none."""

    report: dict[str, object] | None = None
    failure: RankFailure | None = None

    def to_json(self) -> str:
        """Write it as one line."""
        return json.dumps(attrs.asdict(self, recurse=True))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read what `to_json` wrote."""
        data = json.loads(line)
        failure = data["failure"]
        return cls(data["report"], None if failure is None else RankFailure(**failure))
