"""Records as plain values, for JSON: the fields' names are the keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


def plain(record: Any) -> dict[str, Any]:
    """Give the fields of a record, tuples as lists."""
    return attrs.asdict(record, value_serializer=_as_list)


def flat(fields: dict[str, Any]) -> dict[str, Any]:
    """Put the bytes by kind among the other fields of a record, where `by_kind` stands."""
    row: dict[str, Any] = {}
    for name, value in fields.items():
        row |= value if name == "by_kind" else {name: value}
    return row


def _as_list(_owner: object, _field: object, value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


_MOST_SECONDS = 1e18  # a whole number may be too large for a float


def text_in(values: Mapping[str, Any], key: str) -> str | None:
    """Give a text of a map that anybody wrote; None for anything else."""
    value = values.get(key)
    return value if isinstance(value, str) else None


def count_in(values: Mapping[str, Any], key: str) -> int | None:
    """Give a number of things, or of bytes."""
    value = values.get(key)
    return value if type(value) is int and value >= 0 else None


def seconds_in(values: Mapping[str, Any], key: str) -> float | None:
    """Give a time."""
    value = values.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value < _MOST_SECONDS else None
