"""Footprints from the rows of a trace: anybody may have written them. No torch.

Every type, range and reference is checked, and how much there may be of everything is bounded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Never

import attrs

from wanflow.scheduler.footprint.costs import (
    CLASSES,
    CallRecord,
    Cost,
    Footprint,
    Made,
    SegmentUse,
    StageFacts,
)

_LARGEST = 2**41  # bytes or anything else: sums of all stay far below 2**63
_MOST_TEXT = 24 * 2**20  # of all rows; a model of 14 billion at 50 steps takes one
_MOST_CALLS = 100_000
_MOST_NUMBERS = 2_000_000  # of values read and made, by all calls
_MOST_NAMES = 20_000  # rows of one table


_EXCHANGED_TOO = 6  # fields of a cost with what other ranks send
_READ_TOO = 3  # fields of a segment that is read in other bytes than it has


class RowError(ValueError):
    """A row that no run writes; the message says what is wrong."""


@attrs.define
class FootprintReader:
    """Takes the rows of one footprint in their order; `footprint` is whole after the last."""

    footprint: Footprint | None = attrs.field(default=None, init=False)
    _text: int = attrs.field(default=0, init=False)
    _numbers: int = attrs.field(default=0, init=False)
    _stages: list[StageFacts] = attrs.field(factory=list, init=False)
    _dtypes: dict[str, str] = attrs.field(factory=dict, init=False)
    _segments: list[SegmentUse] = attrs.field(factory=list, init=False)
    _costs: list[Cost] = attrs.field(factory=list, init=False)
    _slacks: dict[tuple[int, int], Cost] = attrs.field(factory=dict, init=False)
    _made: list[tuple[str, int, bool, tuple[int, ...]]] = attrs.field(factory=list, init=False)
    _kinds: list[tuple[StageFacts, str, str | None, int]] = attrs.field(factory=list, init=False)
    _calls: list[CallRecord] = attrs.field(factory=list, init=False)
    _values: set[int] = attrs.field(factory=set, init=False)
    _takers: Mapping[str, Callable[[list[Any]], None]] = attrs.field(init=False)

    @_takers.default
    def _by_section(self) -> Mapping[str, Callable[[list[Any]], None]]:
        return {
            "stage": self._stage, "segment": self._segment, "cost": self._cost,
            "made": self._make, "call": self._kind, "step": self._call, "end": self._end,
        }  # fmt: skip

    def take(self, section: str, text: str) -> None:
        """Take a row; RowError for one that no run writes."""
        self._text += len(text)
        if self._text > _MOST_TEXT:
            _wrong("more text than any run has")
        if self.footprint is not None:
            _wrong("a row after the last")
        taker = self._takers.get(section)
        if taker is None:
            _wrong(f"unknown section {section[:40]!r}")
        try:
            row = _JSON.decode(text)
        except (ValueError, RecursionError):
            _wrong(f"{section}: no JSON")
        if not isinstance(row, list):
            _wrong(f"{section}: not a list")
        taker(row)

    def _stage(self, row: list[Any]) -> None:
        name, op, model, steps, weights, knobs, rounding, dtype = _fields(row, 8)
        _bound(self._stages)
        if any(facts.stage == name for facts in self._stages):
            _wrong("a stage is given twice")
        if not isinstance(knobs, dict) or not isinstance(rounding, list):
            _wrong("stage: its knobs are wrong")
        facts = StageFacts(
            _text(name), _text(op), None if model is None else _text(model), _int(steps),
            _int(weights), {_text(k): _text(v) for k, v in knobs.items()},
            tuple(map(_text, rounding)),
        )  # fmt: skip
        self._stages.append(facts)
        if dtype is not None:
            self._dtypes[facts.stage] = _text(dtype)

    def _segment(self, row: list[Any]) -> None:
        name, nbytes, *read = row if len(row) == _READ_TOO else _fields(row, 2)
        file_bytes = _int(read[0]) if read else _int(nbytes)
        _bound(self._segments)
        self._segments.append(SegmentUse(_text(name), _int(nbytes), file_bytes=file_bytes))

    def _cost(self, row: list[Any]) -> None:
        row, exchanged = (row[:4], row[4:]) if len(row) == _EXCHANGED_TOO else (row, [])
        workspace, flops, memory, kernels = _fields(row, 4)
        _bound(self._costs)
        if not isinstance(flops, dict) or not flops.keys() <= set(CLASSES):
            _wrong("cost: unknown kernels")
        amounts = {kind: _amount(amount) for kind, amount in flops.items()}
        cost = Cost(_int(workspace), amounts, _int(memory), _int(kernels))
        if exchanged:
            received, exchanges = map(_int, exchanged)
            cost = attrs.evolve(cost, exchanged_bytes=received, exchanges=exchanges)
        self._costs.append(cost)

    def _make(self, row: list[Any]) -> None:
        name, nbytes, is_state, shape = _fields(row, 4)
        _bound(self._made)
        if type(is_state) is not bool or not isinstance(shape, list):
            _wrong("made: a field has the wrong type")
        self._made.append((_text(name), _int(nbytes), is_state, tuple(map(_int, shape))))

    def _kind(self, row: list[Any]) -> None:
        stage, kind, segment, cost = _fields(row, 4)
        _bound(self._kinds)
        name = None if segment is None else _at(self._segments, segment).name
        _at(self._costs, cost)
        self._kinds.append((_at(self._stages, stage), _text(kind), name, cost))

    def _call(self, row: list[Any]) -> None:
        call, number, slack, gathered, reads, makes, renames = _fields(row, 7)
        if not all(isinstance(field, list) for field in (reads, makes, renames)):
            _wrong("step: a field has the wrong type")
        self._numbers += len(reads) + len(makes) + len(renames)
        if len(self._calls) >= _MOST_CALLS or self._numbers > _MOST_NUMBERS:
            _wrong("more steps than any run has")
        facts, kind, segment, cost = _at(self._kinds, call)
        inputs = tuple(map(self._known, reads))
        values = tuple(self._new(*pair) for pair in _pairs(makes))
        names = tuple((_text(new), self._known(old)) for new, old in _pairs(renames))
        self._calls.append(
            CallRecord(
                facts.stage, kind, _int(number), self._with_slack(cost, _int(slack)), segment,
                _int(gathered), inputs, values, names,
            )
        )  # fmt: skip

    def _known(self, value: object) -> int:
        if _int(value) not in self._values:
            _wrong("step: reads a value that no call has made")
        return _int(value)

    def _new(self, value: object, what: object) -> Made:
        name, nbytes, is_state, shape = _at(self._made, what)
        if _int(value) in self._values:
            _wrong("step: makes a value that is there")
        self._values.add(_int(value))
        return Made(_int(value), name, nbytes, is_state, shape)

    def _with_slack(self, number: int, slack: int) -> Cost:
        """Calls of one cost share the object."""
        key = (number, slack)
        if key not in self._slacks:
            self._slacks[key] = attrs.evolve(self._costs[number], slack_bytes=slack)
        return self._slacks[key]

    def _end(self, row: list[Any]) -> None:
        calls, staging, keeps = _fields(row, 3)
        if calls != len(self._calls) or not calls:
            _wrong(f"{len(self._calls)} steps, not {str(calls)[:20]}")
        if not isinstance(keeps, list):
            _wrong("end: a field has the wrong type")
        segments = {use.name: use for use in self._segments}
        if len(segments) < len(self._segments):
            _wrong("a segment is given twice")
        self.footprint = Footprint(
            tuple(self._stages), tuple(self._calls), segments, frozenset(map(self._known, keeps)),
            self._dtypes, _int(staging),
        )  # fmt: skip


def _wrong(problem: str) -> Never:
    raise RowError(problem)


def _constant(word: str) -> Never:
    _wrong(f"{word} is no number")


_JSON = json.JSONDecoder(parse_constant=_constant)  # `json.loads` would make one for every row


def _fields(row: list[Any], count: int) -> list[Any]:
    if len(row) != count:
        _wrong(f"a row of {len(row)} fields, not {count}")
    return row


def _bound(table: list[Any]) -> None:
    if len(table) >= _MOST_NAMES:
        _wrong("more rows in a table than any run has")


def _int(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        _wrong("a number is missing or out of bounds")
    return value


def _amount(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1e24:  # type: ignore[operator]
        _wrong("cost: FLOPs out of bounds")
    return value  # type: ignore[return-value]


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        _wrong("a name is missing or too long")
    return value


def _at(table: list[Any], number: object) -> Any:
    if type(number) is not int or not 0 <= number < len(table):
        _wrong("a row points to none")
    return table[number]


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    if len(items) % 2:
        _wrong("step: half a pair")
    return list(zip(items[::2], items[1::2], strict=True))
