"""Memory over time on a terminal: the tier against its budget, then a row an object."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from wanflow.terminal.layout import clip, duration, flow, size
from wanflow.terminal.safe import printable
from wanflow.trace.timeline import Row, Timeline
from wanflow.units import format_bytes, format_seconds

_HEIGHT = 8
_NAME_CELLS, _NAME_CELLS_WIDE, _SIZE_CELLS = 20, 32, 10


def cells_for(width: int) -> int:
    """Say how many cells of time fit into *width*."""
    return max(10, width - _name_cells(width) - _SIZE_CELLS - len(" " + " |"))


def _name_cells(width: int) -> int:
    return _NAME_CELLS if width < 100 else _NAME_CELLS_WIDE


def render_timeline(timeline: Timeline, console: Console) -> None:
    """Print *timeline*, made with `cells_for(console.width)` cells. `-` is the budget."""
    peak = f"peak {size(timeline.peak_bytes + timeline.overhead_bytes)}"
    budget = (
        [] if timeline.budget_bytes is None else [f"budget {size(timeline.budget_bytes)} (---)"]
    )
    flow(console, [f"{printable(timeline.tier)} over time", peak, *budget], style="bold")
    top = max(timeline.peak_bytes + timeline.overhead_bytes, timeline.budget_bytes or 0, 1)
    for label, line in _chart(timeline, top):
        _line(console, "", label, line)
    _line(console, "stage", "", _stages(timeline.stages))
    for row in timeline.rows:
        _line(console, printable(row.name), format_bytes(row.most_bytes), _cells(row))
    began, ended = format_seconds(timeline.began_seconds), format_seconds(timeline.ended_seconds)
    gap = " " * max(1, len(timeline.level) - len(began) - len(ended))
    _line(console, "", "", f"{began}{gap}{ended}")
    if timeline.left_out:
        flow(console, [f"{timeline.left_out} smaller objects are not shown: --rows"])
    took = duration((timeline.ended_seconds - timeline.began_seconds) / max(1, len(timeline.level)))
    flow(console, [f"a cell is {took}:", "# the most of the object's bytes", "+ a part", ". none"])


def _line(console: Console, name: str, number: str, cells: str) -> None:
    room = _name_cells(console.width)
    name = set_cell_size(clip(name, room), room)
    console.print(Text(f"{name} {number:>{_SIZE_CELLS}} |{cells}"), no_wrap=True, crop=True)


def _chart(timeline: Timeline, top: int) -> list[tuple[str, str]]:
    """Draw columns of `#`; the line of the budget is where its bytes are."""
    budget = timeline.budget_bytes
    at_budget = None if budget is None else max(0, -(-budget * _HEIGHT // top) - 1)
    lines = []
    for height in reversed(range(_HEIGHT)):
        floor = top * height // _HEIGHT
        cells = ["#" if n + timeline.overhead_bytes > floor else " " for n in timeline.level]
        if height == at_budget:
            cells = ["#" if cell == "#" else "-" for cell in cells]
        label = format_bytes(top * (height + 1) // _HEIGHT) if height % 2 else ""
        lines.append((label, "".join(cells)))
    return lines


def _stages(stages: Sequence[str]) -> str:
    """Name each stage where it begins, as much of the name as it has cells."""
    line, index = "", 0
    while index < len(stages):
        name, end = stages[index], index
        while end < len(stages) and stages[end] == name:
            end += 1
        room = end - index
        word = printable(name) if name else ""
        marked = clip(f"[{word}", room) if room > 2 and word else "[" * bool(word)
        filling = "=" if name else " "
        line += marked + filling * (room - cell_len(marked))
        index = end
    return line


def _cells(row: Row) -> str:
    return "".join(
        "#" if nbytes * 10 >= row.most_bytes * 9 and nbytes else "+" if nbytes else "."
        for nbytes in row.cells
    )
