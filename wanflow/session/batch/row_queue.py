"""The order of rows: those of one plan one after another, rows that are the same once."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Collection, Iterator, Mapping

from wanflow.errors import InputError
from wanflow.session.batch.rows_file import RowsFile


class RowQueue:
    """Rows by number, in groups: the rows of a group set all inputs alike but *free* ones.

    What a row sets is read from the file when it is asked for; here are some bytes a row.
    """

    def __init__(self, rows: RowsFile, given: Mapping[str, object], free: Collection[str]) -> None:
        """*given* are inputs of all rows that a row may set otherwise."""
        self.rows = rows
        self._groups = array("L")  # of each row
        self._first = array("q")  # the row that it is the same as: itself where there is none
        groups: dict[bytes, int] = {}
        seen: dict[bytes, int] = {}
        for number in range(len(rows)):
            group, whole = self._keys(number, given, free)
            self._groups.append(groups.setdefault(group, len(groups)))
            self._first.append(seen.setdefault(whole, number))

    def _keys(
        self, number: int, given: Mapping[str, object], free: Collection[str]
    ) -> tuple[bytes, bytes]:
        try:
            row = {**given, **self.rows.read(number)}
        except InputError:  # it fails when it is its turn
            return b"", str(number).encode()
        held = {name: value for name, value in row.items() if name not in free}
        return _digest(held), _digest(row)

    def same_as(self, number: int) -> int | None:
        """The row before that sets everything alike, or None."""
        first = self._first[number]
        return None if first == number else first

    def order(self) -> Iterator[int]:
        """All rows that are not the same as another, group by group."""
        by_group: dict[int, array[int]] = {}
        for number, group in enumerate(self._groups):
            if self._first[number] == number:
                by_group.setdefault(group, array("L")).append(number)
        for numbers in by_group.values():
            yield from numbers

    def group(self, number: int) -> int:
        """The group of a row."""
        return self._groups[number]


def _digest(row: Mapping[str, object]) -> bytes:
    plain = {name: str(value) for name, value in row.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).digest()[:16]
