"""A preview on a terminal: a few of its frames side by side, two pixels a cell, in half blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from wanflow.files.preview_files import STRIP, read_strip
from wanflow.trace.events import Event, Preview

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console
    from rich.text import Text

_SIDE, _GAP, _MOST = 24, 2, 4  # cells that a frame is wide at most, and between two; frames
_BESIDE = 6  # lines that the rest of the screen takes
_COLOURS = ("truecolor", "256")
_UPPER = "\u2580"  # the upper half of a cell in its colour, the lower in that of the ground


@attrs.define
class LastPreview:
    """The last preview of the run in a folder, read from its file as it is made."""

    _folder: Path | None = attrs.field(default=None, init=False)
    _frames: Sequence[Image] = attrs.field(default=(), init=False)

    def start(self, report: Mapping[str, Any]) -> None:
        """Learn which folder it is."""
        self._folder = Path(report["out"]) if report.get("out") else None
        self._frames = ()

    def see(self, event: Event) -> None:
        """Read a preview that was made; one that can't be is not shown."""
        if isinstance(event, Preview) and self._folder is not None:
            try:
                self._frames = read_strip(self._folder / STRIP, event.frames)
            except (OSError, ValueError):
                self._frames = ()

    def drawn(self, console: Console) -> Text | None:
        """Draw it where the terminal has the colours and the room for it."""
        frames = self._frames
        if not frames or not can_show(console):
            return None
        return blocks(frames, console.width, console.height - _BESIDE)


def can_show(console: Console) -> bool:
    """Whether a terminal has half blocks and their colours."""
    shows = console.is_terminal and not console.no_color and console.color_system in _COLOURS
    return shows and console.encoding.startswith("utf")


def blocks(frames: Sequence[Image], columns: int, rows: int) -> Text | None:
    """Draw as many of the *frames* as fit, the first and the last among them; None for too few."""
    from rich.text import Text

    side = min(_SIDE, columns, 2 * rows)
    if side < _SIDE // 2:
        return None
    width, height = frames[0].size
    scale = side / max(width, height)
    size = (max(round(width * scale), 1), max(round(height * scale / 2), 1) * 2)
    count = min(len(frames), (columns + _GAP) // (size[0] + _GAP), _MOST)
    picked = [frames[round(n * (len(frames) - 1) / max(count - 1, 1))] for n in range(count)]
    pixels = [_levels(frame, size) for frame in picked]
    text = Text(no_wrap=True, overflow="crop", end="")
    for row in range(0, size[1], 2):
        for number, levels in enumerate(pixels):
            text.append(" " * (_GAP if number else 0))
            for upper, lower in zip(levels[row], levels[row + 1], strict=True):
                text.append(_UPPER, style=f"rgb({upper}) on rgb({lower})")
        text.append("\n")
    return text


def _levels(frame: Image, size: tuple[int, int]) -> list[list[str]]:
    """Give the pixels of a frame in another size, by row, as `r,g,b`."""
    from PIL.Image import Resampling

    small = frame.resize(size, Resampling.BOX)
    flat, (width, height) = small.tobytes(), size
    cells = [",".join(map(str, flat[i : i + 3])) for i in range(0, 3 * width * height, 3)]
    return [cells[row * width : (row + 1) * width] for row in range(height)]
