"""Values of files that anybody wrote, made fit to be shown: typed, bounded, printable."""

from __future__ import annotations

import math
from typing import Any

from wanflow.terminal.safe import printable

_MOST_CHARACTERS = 2000
_MOST_ITEMS = 4096
_MOST_DEPTH = 12
_MOST_NUMBER = 2**64


def shown_text(value: object, most: int = _MOST_CHARACTERS) -> str:
    """Give a text with nothing in it that a screen obeys; "" for what is none, cut where long."""
    if not isinstance(value, str):
        return ""
    cut = value if len(value) <= most else value[: most - 1] + "\u2026"
    return printable(" ".join(cut.split()))


def shown(value: Any, depth: int = _MOST_DEPTH) -> Any:
    """Give a value that JSON holds with all its texts as `shown_text`, and of each list a part."""
    if isinstance(value, str):
        return shown_text(value)
    if isinstance(value, dict | list | tuple):
        return _inside(value, depth - 1) if depth else None
    fits = isinstance(value, bool) or (isinstance(value, int) and abs(value) < _MOST_NUMBER)
    return value if fits or (isinstance(value, float) and math.isfinite(value)) else None


def _inside(value: dict[Any, Any] | list[Any] | tuple[Any, ...], depth: int) -> Any:
    if isinstance(value, dict):
        items = list(value.items())[:_MOST_ITEMS]
        return {shown_text(str(name)): shown(item, depth) for name, item in items}
    return [shown(item, depth) for item in value[:_MOST_ITEMS]]
