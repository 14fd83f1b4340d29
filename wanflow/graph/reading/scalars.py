"""What a scalar means, by our own rules: YAML 1.1's make `no` false and `3:30` two hundred and ten.

Only `true` and `false` are booleans; `1e-3` is a float; dates, `yes` and `012` are text.
"""

from __future__ import annotations

import re

from wanflow.graph.reading.nodes import Listing, Node, Scalar

Literal = str | int | float | bool | None

_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,29})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,4})?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


def resolve(node: Scalar) -> Literal:
    """Give the value of a scalar; quoted scalars are text."""
    return resolve_plain(node.text) if node.plain else node.text


def resolve_plain(text: str) -> Literal:
    """Give the value of text without quotes, as in a file or on the command line."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and any(c in text for c in ".eE"):
        return float(text)
    return text


def to_data(node: Node) -> object:
    """Give a tree as plain data, for schema validators; depth is bounded by the parser."""
    if isinstance(node, Scalar):
        return resolve(node)
    if isinstance(node, Listing):
        return [to_data(item) for item in node.items]
    return {k.text if isinstance(k, Scalar) else str(k): to_data(v) for k, v in node.pairs}
