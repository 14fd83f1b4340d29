"""A seat in a process of its own, perhaps on another computer: it is asked and answers plain data.

Ray makes an actor of the class; nothing in here knows of Ray.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wanflow.errors import BudgetError, InputError, StageFailed, WanflowError
from wanflow.session.batch.seat import Seat
from wanflow.session.probing.first_probe import probed_place
from wanflow.session.running.job import request_of

Answer = dict[str, Any]  # `report` of what was made, or `error`: why not


class RemoteSeat:
    """Runs rows of one batch; an error of ours is an answer, so that the seat goes on."""

    def __init__(self, request: Mapping[str, Any], folder: str) -> None:
        self._request, self._folder = request_of(request), Path(folder)
        self._seat: Seat | None = None

    def about(self, token: str) -> Answer:
        """Say where this is, and whether the file *token* is seen here as well."""
        return {"pid": os.getpid(), "host": socket.gethostname(), "sees": Path(token).is_file()}

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> Answer:
        """Encode the prompts of rows in one pass; a row that is none is told when it is run."""

        def do() -> None:
            prepared = []
            for inputs in rows:
                try:
                    prepared.append(self._at.prepare(inputs))
                except WanflowError:
                    continue
            self._at.encode(prepared, None)

        return _answered(do)

    def run(self, inputs: Mapping[str, Any], folder: str) -> Answer:
        """Make a row in its folder, or go on with it."""

        def do() -> dict[str, object]:
            prepared = self._at.prepare(inputs)
            return self._at.run(prepared, Path(folder), None, last=False)

        return _answered(do)

    @property
    def _at(self) -> Seat:
        if self._seat is None:
            self._seat = Seat.at(self._request, self._folder, probed_place)
        return self._seat


def _answered(do: Callable[[], object]) -> Answer:
    try:
        return {"report": do()}
    except WanflowError as error:
        told = {"message": error.message, "hint": error.hint, "code": error.code}
        return {"error": {**told, "exit_code": error.exit_code}}


def error_of(answer: Mapping[str, Any]) -> WanflowError | None:
    """The error of an answer, as its seat had it; None where it made the row."""
    told = answer.get("error")
    if told is None:
        return None
    kinds = {2: InputError, 3: BudgetError}
    kind = kinds.get(told["exit_code"], StageFailed)
    return kind(told["message"], hint=told["hint"], code=told["code"])
