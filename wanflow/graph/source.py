"""The bytes of a YAML file, refused before any parser sees them when they can't be one."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import attrs

LARGEST_FILE = 2**20

# What YAML counts as a line's end. Ours must agree with it, or marks point at the wrong line.
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_CONFLICT = re.compile(r"^(<{7}|>{7}|\|{7})( |$)", re.MULTILINE)


@attrs.frozen
class Mark:
    """A place in the file, counted from 1; `length` characters are meant."""

    line: int
    column: int
    length: int = 1


@attrs.frozen
class Fault:
    """Why bytes or text can't be read at all: at most one is told, nothing after it means much."""

    code: str
    message: str
    mark: Mark
    suggestion: str = ""
    note: str = ""


@attrs.frozen(slots=False)
class Source:
    """A file as it was read: `file` is its name in messages, `path` where it lies."""

    file: str
    text: str
    path: Path | None = None

    @cached_property
    def lines(self) -> list[str]:
        """Give the lines as YAML counts them."""
        return _LINE_END.split(self.text)


def decode(data: bytes) -> str | Fault:
    """Decode the bytes of a file: at most 1 MiB of UTF-8, with or without a BOM."""
    if len(data) > LARGEST_FILE:
        return Fault("too-large", "a file has at most 1 MiB", Mark(1, 1))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", errors="replace")
        message = f"the file is not UTF-8: byte 0x{data[error.start]:02x}"
        return Fault("not-utf8", message, mark_at(before, len(before)), "save it as UTF-8")


def find_fault(text: str, grammar: str) -> Fault | None:
    """Find what no file has: control characters, merge-conflict markers, nothing at all.

    *grammar* says where to read what belongs into an empty one.
    """
    if bad := _UNPRINTABLE.search(text):
        message = f"control character U+{ord(bad[0]):04X}"
        return Fault("control-character", message, mark_at(text, bad.start()), "remove it")
    if conflict := _CONFLICT.search(text):
        place = mark_at(text, conflict.start(), 7)
        return Fault("merge-conflict", "a merge conflict is left in the file", place, "resolve it")
    if not text.strip():
        return Fault("empty-file", "the file is empty", Mark(1, 1), grammar)
    return None


def mark_at(text: str, offset: int, length: int = 1) -> Mark:
    """Turn an offset into a line and a column."""
    before = _LINE_END.split(text[:offset])
    return Mark(len(before), len(before[-1]) + 1, length)
