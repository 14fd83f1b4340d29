"""What goes to a terminal that can't show everything."""

from __future__ import annotations

import io
import sys

import pytest

from wanflow.cli.output import say, tolerate_any_text


def test_a_terminal_of_ascii_gets_its_tables_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a name is cut stands a character as wide; so do bars and lines; words are escaped."""
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding="ascii"))
    tolerate_any_text()
    say("denoi\u2026 \u2501\u2500\u2502 \u4e2d \xe9")
    assert screen.getvalue() == b"denoi~ --| \\u4e2d \\xe9\n"


def test_a_terminal_of_utf_8_gets_what_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for half a character out of a file's name."""
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding="utf-8"))
    tolerate_any_text()
    say("denoi\u2026 \udcff")
    assert screen.getvalue() == "denoi\u2026 \\udcff\n".encode()
