"""Events to msgpack payloads and back: `[kind, field, field, ...]`, fields in the records' order.

The header lists the field names, so a file explains itself and an event stays near 110 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from operator import itemgetter
from typing import Any

import attrs

from wanflow.trace.events import (
    Event,
    FootprintRows,
    Kind,
    Memory,
    Move,
    Note,
    Preview,
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
    Preview: "preview",
    FootprintRows: "footprint",
}


Row = list[Any]
"""An event as it lies in the file, checked: its kind, then its fields; words are Verb and Kind."""


@attrs.frozen
class _RecordFields:
    """How one kind of event lies in its row: `wire` has the exact types, indexes are of the row."""

    tag: str
    record: Callable[..., Event]
    names: tuple[str, ...]
    wire: list[type]
    ints: tuple[int, ...]
    counts: Callable[[Sequence[Any]], tuple[int, ...]]
    words: tuple[tuple[int, dict[str, StrEnum]], ...]
    lists: tuple[int, ...]
    defaults: tuple[Any, ...]  # None for a field that every file has


def _layout(record: type[Any]) -> _RecordFields:
    fields = attrs.fields(attrs.resolve_types(record))
    kinds = [str, *(field.type for field in fields)]
    lists = tuple(i for i, kind in enumerate(kinds) if kind == tuple[str, ...])
    ints = tuple(i for i, kind in enumerate(kinds) if kind is int)
    return _RecordFields(
        tag=_TAGS[record],
        record=record,
        names=tuple(field.name for field in fields),
        wire=[int if i in ints else list if i in lists else str for i in range(len(kinds))],
        ints=ints,
        counts=itemgetter(*ints, ints[-1]),  # one twice: of a single index it would give no tuple
        words=tuple(
            (i, {str(word): word for word in k}) for i, k in enumerate(kinds) if k in (Verb, Kind)
        ),
        lists=lists,
        defaults=tuple(None if f.default is attrs.NOTHING else f.default for f in fields),
    )


_BY_TYPE = {record: _layout(record) for record in _TAGS}
_BY_TAG = {layout.tag: layout for layout in _BY_TYPE.values()}

RANKED = "rank"
"""The tag of an event of another rank than the first: its rank, then its own row."""

FIELDS: dict[str, tuple[str, ...]] = {
    **{tag: layout.names for tag, layout in _BY_TAG.items()},
    RANKED: ("rank", "event"),
}
"""The field names of each kind of event, in the order of its row; the header repeats them."""


def tag_of(event: Event) -> str:
    """Name the kind of *event* as the file does: `move`, `workspace`, `step`, `stage`, ..."""
    return _TAGS[type(event)]


def encode(event: Event, rank: int = 0) -> bytes:
    """Pack *event*; raises ValueError, TypeError or OverflowError for a field that can't be."""
    layout = _BY_TYPE[type(event)]
    row = (layout.tag, *event.__dict__.values())  # its fields in order: a record has no slots
    if min(layout.counts(row)) < 0:
        raise ValueError(_negative(layout, row))
    return pack((RANKED, rank, row) if rank else row)


def unranked(value: Any) -> tuple[int, Any]:
    """Take the row of a rank's event apart: the rank, and the event's own row."""
    if type(value) is not list or not value or value[0] != RANKED:
        return 0, value
    if len(value) < 3 or type(value[1]) is not int or value[1] < 1:
        raise DamagedError("rank: a field is missing or has the wrong type")
    return value[1], value[2]


def decode(payload: bytes) -> Event | None:
    """Unpack one event, strictly; None for a kind that this version does not know.

    Fields after those known are ignored (a later version may append some). Raises DamagedError.
    """
    row = checked(unpack(payload))
    return None if row is None else event_of(row)


def row_of(event: Event) -> Row:
    """Give *event* as a checked row."""
    layout = _BY_TYPE[type(event)]
    return [layout.tag, *event.__dict__.values()]


def event_of(row: Row) -> Event:
    """Make the record of a checked row."""
    return _BY_TAG[row[0]].record(*row[1:])


def checked(row: Any) -> Row | None:
    """Take what was unpacked for the row of an event, or raise DamagedError; None as `decode`.

    The list itself is returned, with words and lists put in place.
    """
    try:
        layout = _BY_TAG[row[0]]
    except (TypeError, LookupError):
        _be_unknown(row)
        return None
    # Exact types: a bool is an int to isinstance, and not to us.
    if [*map(type, row)] != layout.wire:
        _fit(layout, row)
    if min(layout.counts(row)) < 0:
        raise DamagedError(_negative(layout, row))
    for index, words in layout.words:
        word = words.get(row[index])
        if word is None:
            raise DamagedError(f"{layout.tag}: unknown {layout.names[index - 1]}")
        row[index] = word
    for index in layout.lists:
        if not all(type(item) is str for item in row[index]):
            raise DamagedError(f"{layout.tag}: {layout.names[index - 1]} must hold text")
        row[index] = tuple(row[index])
    typed: Row = row
    return typed


def _be_unknown(row: object) -> None:
    """Tell a kind of a later version from damage."""
    if not isinstance(row, list) or not row or type(row[0]) is not str:
        raise DamagedError("not a list that starts with the kind of event")


def _fit(layout: _RecordFields, row: Row) -> None:
    """Add what an older writer did not know, drop what only a later one knows; then no excuse."""
    row += layout.defaults[len(row) - 1 :]
    del row[len(layout.wire) :]
    if [*map(type, row)] != layout.wire:
        raise DamagedError(f"{layout.tag}: a field is missing or has the wrong type")


def _negative(layout: _RecordFields, row: Sequence[Any]) -> str:
    index = next(index for index in layout.ints if row[index] < 0)
    return f"{layout.tag}: {layout.names[index - 1]} is negative"
