"""The words of a message: the user's text, what a value is, what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

from wanflow.terminal.safe import printable

LONGEST = 60  # characters of the user's text that a message repeats
MOST_LISTED = 20


def quoted(text: str) -> str:
    """Quote the user's text for a message: escaped, and cut when it is long."""
    cut = text if len(text) <= LONGEST else text[:LONGEST] + "…"
    return f"'{printable(cut)}'"


def listing(names: Iterable[str], word: str = "or") -> str:
    """Join names as a sentence does: `a, b or c`; a long list is cut."""
    items = list(names)
    if len(items) < 2:
        return "".join(items)
    if len(items) > MOST_LISTED:
        return f"{', '.join(items[:MOST_LISTED])} … ({len(items)} in all)"
    return f"{', '.join(items[:-1])} {word} {items[-1]}"


def nearest(text: str, names: Iterable[str]) -> str:
    """Give the name that was probably meant; "" when none is near."""
    from difflib import get_close_matches  # only a wrong file pays for it

    # A name is at most 64 characters; comparing is quadratic, and a file may have 10,000 names.
    if len(text) > 80:
        return ""
    near = get_close_matches(text, _tellable(names)[:200], n=1, cutoff=0.6)
    return near[0] if near else ""


def did_you_mean(text: str, names: Iterable[str]) -> str:
    """Say the nearest allowed name, or all of them when none is near."""
    allowed = _tellable(names)
    near = nearest(text, allowed)
    if near:
        return f"did you mean '{near}'?"
    more = ", …" if len(allowed) > MOST_LISTED else ""
    return f"allowed: {', '.join(allowed[:MOST_LISTED])}{more}" if allowed else ""


def _tellable(names: Iterable[str]) -> list[str]:
    """Sort the names and leave out wrong ones: too long, or not printable."""
    return sorted(name for name in names if len(name) <= 64 and name.isprintable())


def what_is(value: object) -> str:
    """Name a value with its kind: `text 'abc'`, `the int 5`, `nothing`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        kind = "int" if isinstance(value, int) else "float"
        return f"the {kind} {printable(repr(value))[:LONGEST]}"
    if isinstance(value, str):
        return f"text {quoted(value)}"
    return str(value)
