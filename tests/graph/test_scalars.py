"""Our own scalar rules, where YAML 1.1 surprises."""

from __future__ import annotations

import pytest

from wanflow.graph.reading.nodes import parse
from wanflow.graph.reading.scalars import resolve_plain, to_data
from wanflow.graph.source import Fault


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("5", 5), ("-5", -5), ("+5", 5), ("0", 0), ("9" * 30, int("9" * 30)),
        ("5.0", 5.0), ("1e-3", 1e-3), ("1E3", 1e3), (".5", 0.5), ("5.", 5.0), ("-1.5e+2", -150.0),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("True", "True"), ("NULL", "NULL"), ("y", "y"),
        ("3:30", "3:30"), ("2024-01-01", "2024-01-01"), ("012", "012"), ("0x10", "0x10"),
        ("1_000", "1_000"), (".inf", ".inf"), (".nan", ".nan"), ("1e", "1e"), ("e5", "e5"),
        (".", "."), ("-", "-"), ("832*480", "832*480"), ("9" * 31, "9" * 31), ("٣", "٣"),
    ],
)  # fmt: skip
def test_plain_scalar(text: str, value: object) -> None:
    """Only what is plainly a number, a boolean or nothing is that."""
    assert resolve_plain(text) == value
    assert type(resolve_plain(text)) is type(value)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quoted_scalar_is_text(quote: str) -> None:
    """Quotes say so."""
    tree = parse(f"[{quote}5{quote}, 5, |\n  5\n]".replace("|\n  5\n", "true"))
    assert not isinstance(tree, Fault)
    assert to_data(tree) == ["5", 5, True]


def test_block_text_is_text() -> None:
    """A long prompt can be folded over lines."""
    tree = parse("a: >-\n  one\n  two\nb: |\n  5\n")
    assert not isinstance(tree, Fault)
    assert to_data(tree) == {"a": "one two", "b": "5\n"}
