"""Text made safe to print: names in a file are anybody's."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Show as `\x1b` what a terminal would obey (control, direction) or can't encode."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def clean(text: str) -> str:
    """Make the lines of *text* printable."""
    return "\n".join(map(printable, text.split("\n")))
