"""What is written behind an expectation, read by its sort; what is wrong is told with its place."""

from __future__ import annotations

from typing import Any

from wanflow.errors import InputError
from wanflow.graph.reading.nodes import Scalar
from wanflow.graph.reading.scalars import resolve
from wanflow.graph.reading.tables import Fields, KeyEntry, what_node
from wanflow.session.scenarios.expectations import KINDS, Expectation, Sort
from wanflow.units import parse_budget, parse_seconds

LAST_EXIT_CODE = 255


class _OtherSort(Exception):
    """What is written is of another sort."""


def read_expectations(fields: Fields | None) -> dict[str, Expectation]:
    """Read a mapping of expectations, by kind."""
    if fields is None:
        return {}
    fields.check_keys(KINDS)
    found = {}
    for name, entry in fields:
        if name not in KINDS:
            continue
        sort = KINDS[name].sort
        try:
            value = _words(entry) if sort is Sort.WORDS else _scalar(sort, entry)
            found[name] = Expectation(name, value, entry.value.mark)
        except _OtherSort:
            message = f"{fields.what}: '{name}' wants {sort}, is {what_node(entry.value)}"
            fields.tell("wrong-type", message, entry.value.mark)
    return found


def _scalar(sort: Sort, entry: KeyEntry) -> Any:
    node = entry.value
    if not isinstance(node, Scalar) or resolve(node) is None:
        raise _OtherSort
    value = resolve(node)
    if sort is Sort.FLAG or sort is Sort.CODE:
        return _plain(sort, value)
    try:
        if sort is Sort.SIZE:
            return _size(node.text)
        if sort is Sort.SECONDS:
            return parse_seconds(node.text, "")
        if sort is Sort.SHARE:
            return _share(node.text)
    except InputError:
        raise _OtherSort from None
    return node.text


def _plain(sort: Sort, value: object) -> bool | int:
    if isinstance(value, bool):
        if sort is Sort.FLAG:
            return value
    elif sort is Sort.CODE and isinstance(value, int) and 0 <= value <= LAST_EXIT_CODE:
        return value
    raise _OtherSort


def _size(text: str) -> int:
    """Bytes; a share of a device and what is free are none."""
    nbytes = parse_budget(text).nbytes
    if nbytes is None:
        raise _OtherSort
    return nbytes


def _share(text: str) -> float:
    share = parse_budget(text).share
    if share is None:
        raise _OtherSort
    return share


def _words(entry: KeyEntry) -> dict[str, str]:
    pairs = getattr(entry.value, "pairs", None)
    if not pairs or not all(isinstance(k, Scalar) and isinstance(v, Scalar) for k, v in pairs):
        raise _OtherSort
    return {key.text: value.text for key, value in pairs}
