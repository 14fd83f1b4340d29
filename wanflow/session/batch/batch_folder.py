"""The folder of a batch: its request, a copy of its rows, a run folder a row, what came of them.

What is done is told by the rows' own folders, so that nothing is redone and nothing believed that
is not there. `batch.json` and `table.csv` are for people and programs that look.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from wanflow.errors import InputError, WanflowError
from wanflow.files.run_files import BATCH, BATCH_REQUEST
from wanflow.files.whole import unreadable, unwritable, write_json, writing
from wanflow.session.batch.row_queue import RowQueue
from wanflow.session.request import Request
from wanflow.session.running.job import finished_report, plain_request, request_of

_PAUSE = 0.005  # seconds between two writes of `batch.json`, for each row in it
_PRODUCTS = ("video", "picture", "folder")


def is_batch(folder: Path) -> bool:
    """Whether a folder is a batch's."""
    return (folder / BATCH_REQUEST).is_file()


def keep_request(folder: Path, request: Request, rows: Path, options: Mapping[str, Any]) -> None:
    """Write what `resume` needs: the request, and the rows as they are now."""
    copy = folder / f"rows{rows.suffix.lower()}"
    try:
        with writing(copy) as part:
            shutil.copyfile(rows, part)
    except OSError as error:
        raise unwritable(copy, error) from None
    data = {"request": plain_request(request), "rows": copy.name, "options": dict(options)}
    write_json(folder / BATCH_REQUEST, data)


def read_request(folder: Path) -> tuple[Request, Path, dict[str, Any]]:
    """Read it; InputError when it is damaged, StageFailed when it can't be read now."""
    path = folder / BATCH_REQUEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        request = request_of(data["request"])
        return request, folder / Path(data["rows"]).name, dict(data["options"])
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged: {error}", code="bad-batch") from None


@attrs.define
class Book:
    """What became of every row, some bytes a row. Status and seconds are kept, errors too."""

    folder: Path
    queue: RowQueue
    graph: str
    _status: bytearray = attrs.field(init=False)
    _seconds: array[float] = attrs.field(init=False)
    _errors: dict[int, dict[str, object]] = attrs.field(factory=dict, init=False)
    _made: int = attrs.field(default=0, init=False)
    _made_seconds: float = attrs.field(default=0.0, init=False)
    _written: float = attrs.field(default=-math.inf, init=False)  # when `batch.json` last was

    def __attrs_post_init__(self) -> None:
        self._status = bytearray(len(self.queue.rows))
        self._seconds = array("d", bytes(8 * len(self.queue.rows)))

    def row_folder(self, number: int) -> Path:
        """The run folder of a row; rows are counted from 1 there."""
        width = max(4, len(str(len(self.queue.rows))))
        return self.folder / f"{number + 1:0{width}d}"

    def look(self) -> None:
        """Read from the rows' folders what is done already."""
        for number in self.queue.order():
            folder = self.row_folder(number)
            report = finished_report(folder)
            if report is not None:
                _forget_state(folder / "state")
                self.done(number, report)

    def ended(self, number: int, report: Mapping[str, object]) -> None:
        """A row was run: to its end, or as far as it was asked to."""
        if report.get("status") == "stopped":
            self.stopped(number)
        else:
            self.done(number, report)

    def done(self, number: int, report: Mapping[str, object]) -> None:
        """A row is made."""
        self._status[number] = _STATUSES.index("done")
        self._seconds[number] = seconds = float(str(report.get("seconds", 0.0)))
        self._made, self._made_seconds = self._made + 1, self._made_seconds + seconds
        self._errors.pop(number, None)

    def failed(self, number: int, error: WanflowError) -> None:
        """A row could not be made."""
        self._status[number] = _STATUSES.index("failed")
        told = {"error": error.message, "code": error.code, "hint": error.hint}
        self._errors[number] = {name: text for name, text in told.items() if text}

    def running(self, number: int) -> None:
        """A row is begun."""
        self._status[number] = _STATUSES.index("running")

    def cut_short(self, number: int) -> None:
        """A row was cut short; it is gone on with another time."""
        self._status[number] = _STATUSES.index("waiting")

    def stopped(self, number: int) -> None:
        """A row was run as far as it was asked to; it can be gone on with."""
        self._status[number] = _STATUSES.index("stopped")

    def status(self, number: int) -> str:
        """What became of a row; of one that is the same as another, what became of that."""
        first = self.queue.same_as(number)
        return _STATUSES[self._status[number if first is None else first]]

    def missing(self) -> Iterator[int]:
        """The rows that are not made, in the order in which they should be."""
        made = ("done", "failed", "stopped")
        return (n for n in self.queue.order() if self.status(n) not in made)

    def counts(self) -> dict[str, int]:
        """How many rows there are of each status."""
        statuses = [self.status(number) for number in range(len(self.queue.rows))]
        return {name: statuses.count(name) for name in _STATUSES}

    def seconds_a_row(self) -> float:
        """What a row took on average; 0 before one is made."""
        return self._made_seconds / self._made if self._made else 0.0

    def failures(self) -> list[dict[str, object]]:
        """The rows that failed, with what was said."""
        return [self.entry(number) for number in sorted(self._errors)]

    def entry(self, number: int) -> dict[str, object]:
        """What `batch.json` says of a row."""
        first, rows = self.queue.same_as(number), self.queue.rows
        made = number if first is None else first
        entry: dict[str, object] = {
            "row": number + 1,
            "line": rows.line(number),
            "status": self.status(number),
            "folder": self.row_folder(made).name,
        }
        if first is not None:
            entry["same_as"] = first + 1
        if self.status(number) == "done":
            entry["seconds"] = self._seconds[made]
        return {**entry, **self._errors.get(made, {})}

    def write(self, status: str) -> dict[str, object]:
        """Write `batch.json`; give what it says of the whole."""
        rows = range(len(self.queue.rows))
        report = {
            "graph": self.graph,
            "out": str(self.folder),
            "status": status,
            "count": len(rows),
            **self.counts(),
        }
        write_json(self.folder / BATCH, {**report, "rows": [*map(self.entry, rows)]})
        return report

    def end(self, status: str) -> None:
        """Write how far it came: what was running waits. A full disk has been told of by others."""
        waiting, running = map(_STATUSES.index, ("waiting", "running"))
        self._status = self._status.replace(bytes([running]), bytes([waiting]))
        with suppress(WanflowError):
            self.write(status)

    def write_now_and_then(self) -> None:
        """Write `batch.json` while rows are made; where there are many of them, not at each."""
        now = time.monotonic()
        if now - self._written >= _PAUSE * len(self.queue.rows):
            self.write("running")
            self._written = now

    def write_table(self) -> Path:
        """Write `table.csv`: a line a row, with what it was made from and what it made."""
        path, rows = self.folder / "table.csv", self.queue.rows
        columns = ("row", "line", "status", "seconds", "peak_bytes", "product", "seed", "prompt")
        try:
            with writing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, (*columns, "error"))
                table.writeheader()
                for number in range(len(rows)):
                    table.writerow(self._line(number, columns))
        except OSError as error:
            raise unwritable(path, error) from None
        return path

    def _line(self, number: int, columns: tuple[str, ...]) -> dict[str, object]:
        entry = self.entry(number)
        report = finished_report(self.folder / str(entry["folder"])) or {}
        inputs = report.get("inputs")
        known = {**(inputs if isinstance(inputs, dict) else {}), **report, **entry}
        product = next((str(known[kind]) for kind in _PRODUCTS if kind in report), "")
        known["product"] = str(Path(product).relative_to(self.folder)) if product else ""
        return {name: known.get(name, "") for name in (*columns, "error")}


def _forget_state(folder: Path) -> None:
    """Clear what a row that is done had saved: it may have been killed before it did so."""
    if folder.is_dir():
        from wanflow.session.running.saved_state import StateStore  # loads PyTorch

        StateStore(folder).clear()


_STATUSES = ("waiting", "done", "failed", "running", "stopped")
