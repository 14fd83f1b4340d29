"""What screens share: tables that drop columns and never break a number, lines that flow."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import Any, Literal

import attrs
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wanflow.terminal.safe import clean, printable
from wanflow.units import format_bytes, format_seconds

_GAP = 2
_NAME_CELLS, _NAME_CELLS_WIDE = 14, 24
_WORDS_CELLS = 14
_TIE = "\xa0"


def bare_table(*numbers: str, title: str | None = None) -> Table:
    """Make a table without lines, of columns of numbers; others are added to it."""
    table = Table(
        box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold",
        title=title, title_justify="left", title_style="",
    )  # fmt: skip
    for name in numbers:
        table.add_column(name, no_wrap=True, justify="right")
    return table


def add_row(table: Table, *cells: str) -> None:
    """Add a row of plain texts."""
    table.add_row(*map(Text, cells))


def line(console: Console, text: str, *, soft_wrap: bool = False) -> None:
    """Print *text*, made safe; with *soft_wrap* it is the terminal that breaks it."""
    console.print(Text(clean(text)), soft_wrap=soft_wrap)


@attrs.frozen
class Column:
    """A column of a table: numbers stand right, words left."""

    title: str
    cell: Callable[[Any], str]
    justify: Literal["left", "right"] = "right"


def table(
    rows: Sequence[Any], columns: Sequence[Column], width: int, *, grow: bool = False
) -> Table:
    """Lay out as many columns as *width* holds, the first ones, of words the first; none wraps.

    With *grow* the first takes the room that is left.
    """
    first, *others = columns
    longest = _NAME_CELLS if width < 100 else _NAME_CELLS_WIDE
    names = [clip(first.cell(row), longest) for row in rows]
    laid = bare_table()
    laid.add_column(first.title, no_wrap=True)
    shown, room = [names], width - max([len(first.title), *map(cell_len, names)])
    for column in others:
        cells = [column.cell(row) for row in rows]
        need = _cells_needed(column, cells)
        if column.justify == "left" and need > room >= _WORDS_CELLS:
            # Words may be cut where a number may not.
            cells, need = [clip(cell, room - _GAP) for cell in cells], room
        if need > room:
            break
        room -= need
        shown.append(cells)
        laid.add_column(column.title, justify=column.justify, no_wrap=True)
    if grow:
        shown[0] = [clip(first.cell(row), longest + max(room, 0)) for row in rows]
    for row in zip(*shown, strict=True):
        add_row(laid, *row)
    return laid


def _cells_needed(column: Column, cells: Sequence[str]) -> int:
    return _GAP + max([cell_len(column.title), *map(cell_len, cells)])


def quote(text: str) -> str:
    """Make *text* safe to paste: a trace may come from anybody."""
    return shlex.quote(printable(text))


def clip(text: str, cells: int) -> str:
    """Cut *text* to so many cells, with two dots where something is missing."""
    return text if cell_len(text) <= cells else set_cell_size(text, max(cells - 2, 0)) + ".."


def size(nbytes: int) -> str:
    """Write bytes so that the unit stays beside the number."""
    return format_bytes(nbytes).replace(" ", _TIE)


def duration(seconds: float) -> str:
    """Write seconds so that the unit stays beside the number."""
    return format_seconds(seconds).replace(" ", _TIE)


def flow(console: Console, parts: Sequence[str], style: str = "") -> None:
    """Print *parts* on as few lines as hold them; a long part breaks, but never inside a number."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line else part
        if line and cell_len(longer) > console.width:
            _print(console, line, style)
            longer = "  " + part
        line = longer
    _print(console, line, style)


def _print(console: Console, line: str, style: str) -> None:
    # The tie is no white space to textwrap, which keeps a number beside its unit.
    for piece in wrap(line, console.width, subsequent_indent="  ", break_on_hyphens=False):
        console.print(Text(piece.replace(_TIE, " "), style=style))


def command(console: Console, text: str) -> None:
    """Print a command; never broken: it is there to be copied."""
    console.print(Text(f"hint: {text}"), soft_wrap=True)
