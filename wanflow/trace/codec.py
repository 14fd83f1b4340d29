"""Events to msgpack payloads and back: `[kind, field, field, ...]`, fields in the records' order.

The header lists the field names, so a file explains itself and an event stays near 110 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from operator import attrgetter
from typing import Any

import attrs

from wanflow.trace.events import (
    Event,
    FootprintRows,
    Kind,
    Memory,
    Move,
    Note,
    StageSpan,
    Step,
    Transfer,
    Verb,
    Workspace,
)
from wanflow.trace.framing import DamagedError, pack, unpack

_TAGS: dict[type[Any], str] = {
    Move: "move",
    Transfer: "transfer",
    Workspace: "workspace",
    Step: "step",
    StageSpan: "stage",
    Memory: "memory",
    Note: "note",
    FootprintRows: "footprint",
}


@attrs.frozen
class _Layout:
    """How one kind of event lies in its row: `wire` has the exact types, indexes count fields."""

    tag: str
    record: Callable[..., Event]
    names: tuple[str, ...]
    wire: tuple[type, ...]
    get: Callable[[Event], tuple[Any, ...]]
    ints: tuple[int, ...]
    words: tuple[tuple[int, dict[str, StrEnum]], ...]
    lists: tuple[int, ...]
    defaults: tuple[Any, ...]  # None for a field that every file has


def _layout(record: type[Any]) -> _Layout:
    fields = attrs.fields(attrs.resolve_types(record))
    names = tuple(field.name for field in fields)
    kinds = [field.type for field in fields]
    lists = tuple(i for i, kind in enumerate(kinds) if kind == tuple[str, ...])
    return _Layout(
        tag=_TAGS[record],
        record=record,
        names=names,
        wire=tuple(int if k is int else list if i in lists else str for i, k in enumerate(kinds)),
        get=attrgetter(*names),
        ints=tuple(i for i, kind in enumerate(kinds) if kind is int),
        words=tuple(
            (i, {str(word): word for word in k}) for i, k in enumerate(kinds) if k in (Verb, Kind)
        ),
        lists=lists,
        defaults=tuple(None if f.default is attrs.NOTHING else f.default for f in fields),
    )


_BY_TYPE = {record: _layout(record) for record in _TAGS}
_BY_TAG = {layout.tag: layout for layout in _BY_TYPE.values()}

FIELDS: dict[str, tuple[str, ...]] = {tag: layout.names for tag, layout in _BY_TAG.items()}
"""The field names of each kind of event, in the order of its row; the header repeats them."""


def tag_of(event: Event) -> str:
    """Name the kind of *event* as the file does: `move`, `workspace`, `step`, `stage`, ..."""
    return _TAGS[type(event)]


def encode(event: Event) -> bytes:
    """Pack *event*; raises ValueError, TypeError or OverflowError for a field that can't be."""
    layout = _BY_TYPE[type(event)]
    values = layout.get(event)
    for index in layout.ints:
        if values[index] < 0:
            raise ValueError(f"{layout.tag}: {layout.names[index]} is negative")
    return pack((layout.tag, *values))


def decode(payload: bytes) -> Event | None:
    """Unpack one event, strictly; None for a kind that this version does not know.

    Fields after those known are ignored (a later version may append some). Raises DamagedError.
    """
    row = unpack(payload)
    if not isinstance(row, list) or not row or type(row[0]) is not str:
        raise DamagedError("not a list that starts with the kind of event")
    layout = _BY_TAG.get(row[0])
    return None if layout is None else _build(layout, row[1 : len(layout.names) + 1])


def _build(layout: _Layout, values: list[Any]) -> Event:
    values += layout.defaults[len(values) :]  # an older writer knew fewer
    # Exact types: a bool is an int to isinstance, and not to us.
    if tuple(map(type, values)) != layout.wire:
        raise DamagedError(f"{layout.tag}: a field is missing or has the wrong type")
    for index in layout.ints:
        if values[index] < 0:
            raise DamagedError(f"{layout.tag}: {layout.names[index]} is negative")
    for index, known in layout.words:
        word = known.get(values[index])
        if word is None:
            raise DamagedError(f"{layout.tag}: unknown {layout.names[index]}")
        values[index] = word
    for index in layout.lists:
        if not all(type(item) is str for item in values[index]):
            raise DamagedError(f"{layout.tag}: {layout.names[index]} must hold text")
        values[index] = tuple(values[index])
    return layout.record(*values)
