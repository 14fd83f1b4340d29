"""How the values of the official flags are read; each reader gives an InputError that says how."""

from __future__ import annotations

from collections.abc import Callable

from wanflow.errors import InputError
from wanflow.graph.ops import MOST_FRAMES
from wanflow.graph.rules import VideoRules
from wanflow.graph.wording import quoted

_TRUE, _FALSE = ("true", "yes", "t", "y", "1"), ("false", "no", "f", "n", "0")


def boolean(name: str) -> Callable[[str], bool]:
    """Read upstream's words for true and false."""

    def read(text: str) -> bool:
        if text.lower() in (*_TRUE, *_FALSE):
            return text.lower() in _TRUE
        raise InputError(
            f"--{name} {quoted(text)}: neither true nor false",
            hint="allowed: true, false, yes, no, 1, 0",
            code="bad-flag",
        )

    return read


def choice(name: str, *allowed: str) -> Callable[[str], str]:
    """Read one of some words."""

    def read(text: str) -> str:
        if text in allowed:
            return text
        raise InputError(
            f"--{name} {quoted(text)}: not a value of it",
            hint=f"allowed: {', '.join(allowed)}",
            code="bad-flag",
        )

    return read


def number(
    name: str, kind: type[int | float], least: float, most: float
) -> Callable[[str], int | float]:
    """Read a number in a range."""

    def read(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is not None and least <= value <= most:
            return value
        what = "a whole number" if kind is int else "a number"
        raise InputError(
            f"--{name} {quoted(text)}: must be {what} of {least} to {most}", code="bad-flag"
        )

    return read


def frames(text: str) -> int:
    """Read a count of frames that a clip can have."""
    rules = VideoRules()
    count = int(number("frame_num", int, 1, MOST_FRAMES)(text))
    if not rules.allows_frames(count):
        near = " or ".join(map(str, rules.nearest_frames(count)))
        raise InputError(
            f"--frame_num {count}: must be 4n+1", hint=f"nearest: {near}", code="frame-count"
        )
    return count
