"""Records as plain values, for JSON: the fields' names are the keys."""

from __future__ import annotations

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
