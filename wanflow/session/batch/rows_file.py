"""Files of rows, each of which sets inputs of a graph: `.txt`, `.csv`, `.jsonl`.

Where every row begins is kept, and the row itself is read when it is its turn: memory is constant
in the rows.
"""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

import attrs

from wanflow.errors import InputError
from wanflow.graph.wording import quoted
from wanflow.terminal.safe import printable

LONGEST_BYTES = 2**20  # of one row
_KINDS = (".txt", ".csv", ".jsonl")
_BOM = b"\xef\xbb\xbf"
_DELIMITERS = (",", ";", "\t")

Row = dict[str, str | int | float]
_Part = TypeVar("_Part")


class _BadValue(ValueError):
    """A row that is read and is no row."""


@attrs.frozen
class RowsFile:
    """The rows of a file by number, from 0. `header` are a table's columns, in a `.csv` only."""

    path: Path
    kind: str
    delimiter: str
    header: tuple[str, ...]
    _begins: array[int]
    _lines: array[int]

    @classmethod
    def open(cls, path: Path) -> RowsFile:
        """Find the rows; InputError for a file that is none, can't be read, or has no rows."""
        kind = path.suffix.lower()
        if kind not in _KINDS:
            raise InputError(
                f"{path}: rows are read from {', '.join(_KINDS)} files",
                hint="a prompt a line is a .txt",
                code="rows-kind",
            )
        try:
            with path.open("rb") as file:
                table = _Columns.read(file, path) if kind == ".csv" else _Columns("", (), 0, 0)
                begins, lines = array("Q"), array("Q")
                for begin, line in _records(file, table, kind == ".csv"):
                    begins.append(begin)
                    lines.append(line)
        except OSError as error:
            raise _unreadable(path, error) from None
        if not begins:
            raise InputError(f"{path}: has no rows", code="rows-empty")
        return cls(path, kind, table.delimiter, table.names, begins, lines)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._begins)

    def line(self, number: int) -> int:
        """The line that a row begins at, from 1."""
        return self._lines[number]

    def read(self, number: int) -> Row:
        """Read a row: the inputs that it sets; InputError naming its line, or why it can't be."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._begins[number])
                return self._row(file)
        except OSError as error:
            raise _unreadable(self.path, error) from None
        except (ValueError, csv.Error) as error:
            raise InputError(
                f"{self.path}, line {self.line(number)}: {error}", code="bad-row"
            ) from None

    def _row(self, file: BinaryIO) -> Row:
        texts = (_text(line) for line in _lines(file))
        if self.kind == ".csv":
            cells = next(csv.reader(texts, delimiter=self.delimiter, strict=True), None)
            return self._of_cells(_still_there(cells))
        text = _still_there(next(texts, None)).strip()
        return {"prompt": text} if self.kind == ".txt" else _of_json(text)

    def _of_cells(self, cells: list[str]) -> Row:
        if len(cells) != len(self.header):
            raise ValueError(f"has {len(cells)} cells, the first line names {len(self.header)}")
        return {name: cell for name, cell in zip(self.header, cells, strict=True) if cell != ""}


@attrs.frozen
class _Columns:
    """The first record of a table: how its cells are parted, their names, where it ends."""

    delimiter: str
    names: tuple[str, ...]
    end: int
    lines: int

    @classmethod
    def read(cls, file: BinaryIO, path: Path) -> _Columns:
        try:
            first = _text(next(_lines(file), b"")).strip("\r\n")
            delimiter = max(_DELIMITERS, key=first.count)
            cells = next(csv.reader([first], delimiter=delimiter), [])
        except (ValueError, csv.Error) as error:
            raise InputError(f"{path}, line 1: {error}", code="bad-row") from None
        names = tuple(name.strip() for name in cells)
        if not first or "" in names or len(set(names)) < len(names):
            raise InputError(
                f"{path}, line 1: the first line names the columns, each once: {quoted(first)}",
                hint="prompt,seed",
                code="rows-header",
            )
        return cls(delimiter, names, file.tell(), 1)


def _records(file: BinaryIO, header: _Columns, tabular: bool) -> Iterator[tuple[int, int]]:
    """Where each record begins: its byte, and its line from 1. Empty lines are none."""
    begin, line, inside = header.end, header.lines + 1, False
    start, start_line = begin, line
    file.seek(begin)
    for content in _lines(file):
        if not inside:
            start, start_line = begin, line
        if tabular and content.count(b'"') % 2:
            inside = not inside  # a cell in quotes goes on in the next line
        if not inside and (content.strip(_BOM + b" \t\r\n") or start_line < line):
            yield start, start_line
        begin = file.tell()
        line += 1
    if inside:
        yield start, start_line  # whose quotes are never closed: said when it is read


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines of bytes; one that is longer than a row may be is cut there, and told when read."""
    while content := file.readline(LONGEST_BYTES + 1):
        rest = content
        while len(rest) > LONGEST_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_BYTES + 1)
        yield content


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: {error.strerror or error}", code="rows-unreadable")


def _still_there(part: _Part | None) -> _Part:
    if part is None:
        raise ValueError("is no longer there: the file has become shorter")
    return part


def _text(content: bytes) -> str:
    if len(content) > LONGEST_BYTES:
        raise ValueError(f"is longer than {LONGEST_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is no UTF-8 at byte {error.start}") from None


def _of_json(text: str) -> Row:
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from None
    if not isinstance(data, Mapping):
        raise _BadValue(f"is no JSON object but {printable(text[:40])}")
    return {str(name): _value(name, value) for name, value in data.items() if value is not None}


def _value(name: str, value: object) -> str | int | float:
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ",".join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        told = printable(json.dumps(value)[:40])
        raise _BadValue(f"{quoted(name)} is {told}: a text or a number is wanted")
    return value
