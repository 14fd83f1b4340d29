"""`memory_events.json`, allocated and peak bytes at key points, read as if it were a trace.

Such a log knows no objects: what is allocated more at a point is taken for an object that came
with it, and a peak above what is allocated for the workspace of a call.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from wanflow.errors import InputError
from wanflow.trace.events import Event, Kind, Move, Step, Verb, Workspace
from wanflow.trace.turns import is_load

_MOST_BYTES = 64 * 2**20
_TIER = "cuda:0"
_UNITS = {"gb": 2**30, "gib": 2**30, "mb": 2**20, "mib": 2**20, "kb": 2**10, "kib": 2**10}
_TIMES = ("at_seconds", "timestamp", "time", "elapsed", "t")
_LABELS = ("event", "name", "tag", "label", "step_name", "stage")
_MODELS = {"t5": "text", "text_encoder": "text", "umt5": "text", "vae": "vae", "dit": "dit",
           "transformer": "dit", "wan_model": "dit"}  # fmt: skip


@attrs.frozen
class _Point:
    label: str
    stage: str
    at_ns: int
    allocated_bytes: int
    peak_bytes: int
    step: int | None
    steps: int


def is_memory_log(path: Path) -> bool:
    """Whether *path* looks like JSON and not like a trace."""
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip()[:1] in (b"{", b"[")
    except OSError:
        return False


def read_memory_log(path: Path) -> tuple[dict[str, Any], list[Event]]:
    """Give a header and events; InputError for what has no points, or is too large to be one."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} is larger than {_MOST_BYTES} bytes", code="log-too-large")
        log = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"can't read {path}: {error}", code="log-unreadable") from None
    rows = log.get("events") if isinstance(log, dict) else log
    points = list(_points(rows)) if isinstance(rows, list) else []
    if not points:
        raise InputError(
            f"{path} has no events with allocated bytes",
            hint="an event needs a name and `allocated` in bytes, or `allocated_gb`",
            code="log-empty",
        )
    return _header(log, path), list(_events(points))


def _header(log: Any, path: Path) -> dict[str, Any]:
    fields = log if isinstance(log, dict) else {}
    names = ("graph", "plan_id", "device", "started")
    header = {key: fields[key] for key in names if isinstance(fields.get(key), str)}
    budget = fields.get("budget_bytes")
    if type(budget) is int and budget > 0:
        header["budget_bytes"] = budget
    return {"graph": path.name, **header, "budget_tier": _TIER}


def _points(rows: list[Any]) -> Iterator[_Point]:
    first: float | None = None
    most = 0
    for row in rows:
        allocated = _bytes(row, "alloc") if isinstance(row, dict) else None
        if allocated is None:
            continue
        at = next((n for key in _TIMES if (n := _number(row.get(key))) is not None), 0.0)
        first = at if first is None else first
        # Peaks are of the run so far: only one that grew is this point's own.
        peak = _bytes(row, "peak") or _bytes(row, "max") or 0
        own = peak if peak > most else allocated
        most = max(most, peak, allocated)
        label = next((str(row[key]) for key in _LABELS if isinstance(row.get(key), str)), "event")
        stage = row.get("stage")
        yield _Point(
            label, stage if isinstance(stage, str) else label, max(0, round((at - first) * 1e9)),
            allocated, max(own, allocated), _index(row, "step", "frame"),
            _index(row, "steps", "total") or 0,
        )  # fmt: skip


@attrs.define
class _Stack:
    """What came and is still there; what goes is taken to be what came last."""

    nbytes: int = 0
    objects: list[tuple[str, Kind, int]] = attrs.field(factory=list)

    def change(self, point: _Point, delta: int, at_ns: int) -> Iterator[Move]:
        """Give the moves that make the difference."""
        if delta > 0:
            name, kind = _object(point.label)
            self.objects.append((name, kind, delta))
            self.nbytes += delta
            yield self._move(Verb.PLACE, name, kind, delta, point, at_ns)
        while delta < 0 and self.objects:
            name, kind, there = self.objects.pop()
            gone = min(there, -delta)
            if there > gone:
                self.objects.append((name, kind, there - gone))
            delta += gone
            self.nbytes -= gone
            yield self._move(Verb.FREE, name, kind, gone, point, at_ns)

    def _move(
        self, verb: Verb, name: str, kind: Kind, nbytes: int, point: _Point, at_ns: int
    ) -> Move:
        return Move(
            verb, kind, name, point.stage, point.step or 0, "", _TIER, nbytes, self.nbytes,
            at_ns, at_ns, 0, point.label,
        )  # fmt: skip


def _events(points: list[_Point]) -> Iterator[Event]:
    now, last_ns = 0, 0
    held = _Stack()
    began: dict[str, int] = {}
    for point in points:
        at = max(last_ns, point.at_ns)
        delta, step = point.allocated_bytes - now, point.step or 0
        if point.peak_bytes > max(now, point.allocated_bytes):
            yield Workspace(
                point.label, point.stage, step, _TIER, point.peak_bytes - now, point.peak_bytes,
                last_ns, at,
            )  # fmt: skip
        now = point.allocated_bytes
        if delta:
            for move in held.change(point, delta, at):
                yield move
                if is_load(move):  # a call without room: it came in the turn that the log says
                    yield Workspace(point.label, point.stage, step, _TIER, 0, held.nbytes, at, at)
        if point.step is not None:
            total = max(point.steps, step + 1)
            start = began.get(point.stage, last_ns)
            yield Step(point.stage, step, total, start, at, now, point.peak_bytes)
            began[point.stage] = at
        last_ns = at


def _object(label: str) -> tuple[str, Kind]:
    """Whether a label speaks of a model's weights."""
    low = label.lower()
    for word, model in _MODELS.items():
        if word in low and "load" in low:
            return f"{model}/{label}", Kind.WEIGHTS
    return label, Kind.VALUE


def _bytes(row: Mapping[str, Any], word: str) -> int | None:
    """Find the bytes under a key that has *word*: `memory_allocated`, `peak_gb`, `max_bytes`."""
    for key, value in row.items():
        low = str(key).lower()
        others = {"alloc": ("peak", "max"), "peak": ("step", "stage", "measured")}.get(word, ())
        number = _number(value)
        if word in low and number is not None and number >= 0 and not any(o in low for o in others):
            return int(number * _UNITS.get(low.rpartition("_")[2], 1))
    return None


def _number(value: object) -> float | None:
    """Take a finite number that is no bool."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 2**60:
        return None
    return float(value) if math.isfinite(value) else None


def _index(row: Mapping[str, Any], *keys: str) -> int | None:
    index = next((row[key] for key in keys if type(row.get(key)) is int), None)
    return index if index is not None and 0 <= index < 2**31 else None
