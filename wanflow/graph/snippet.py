"""The line a problem is on, cut to fit, with a caret under what is meant."""

from __future__ import annotations

import unicodedata

import attrs

from wanflow.graph.source import Mark
from wanflow.terminal.safe import printable

WIDEST = 100  # characters of a line that are shown
BEFORE = 60  # of them before the place, when the line must be cut


@attrs.frozen
class Snippet:
    """A line made safe to print, and the blanks and carets that go under it."""

    text: str = ""
    pointer: str = ""


def snippet(lines: list[str], mark: Mark) -> Snippet:
    """Cut the marked line to a readable piece and point at the mark."""
    if not 0 < mark.line <= len(lines):
        return Snippet()
    line, column = lines[mark.line - 1], mark.column - 1
    start = max(0, column - BEFORE) if len(line) > WIDEST else 0
    piece = line[start : start + WIDEST]
    before = _shown(piece[: column - start], "…" if start else "")
    meant = _shown(piece[column - start : column - start + mark.length])
    rest = _shown(piece[column - start + mark.length :])
    more = "…" if start + WIDEST < len(line) else ""
    pointer = " " * _width(before) + "^" * max(1, _width(meant))
    return Snippet((before + meant + rest + more).rstrip(), pointer)


def _shown(text: str, prefix: str = "") -> str:
    # A tab is as wide as the terminal likes; as one blank the caret stays where it belongs.
    return prefix + printable(text.replace("\t", " "))


def _width(text: str) -> int:
    """Count terminal columns: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
