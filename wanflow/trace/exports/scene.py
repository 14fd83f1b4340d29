"""A drawing as plain shapes, so that an SVG and a PNG of it show the same.

Colours go by their names in `PALETTE`.
"""

from __future__ import annotations

from typing import Literal

import attrs

Point = tuple[float, float]
PALETTE = {
    "paper": "#ffffff", "ink": "#333333", "line": "#d9dce1", "soft": "#f3f4f6",
    "strong": "#cc3311", "aside": "#b8bcc4", "weights": "#4477aa", "state": "#aa3377",
    "value": "#ccbb44", "workspace": "#66ccee", "slack": "#88aa99", "other": "#777777",
}  # fmt: skip
Anchor = Literal["start", "middle", "end"]


@attrs.frozen
class Area:
    """A filled polygon."""

    points: tuple[Point, ...]
    fill: str
    about: str = ""  # what a pointer over it is told


@attrs.frozen
class Line:
    """A line through points, `dashed` or not."""

    points: tuple[Point, ...]
    stroke: str
    width: float = 1
    dashed: bool = False


@attrs.frozen
class Label:
    """A text; `at` is on its baseline."""

    at: Point
    text: str
    size: int = 12
    anchor: Anchor = "start"
    fill: str = "ink"


@attrs.frozen
class Scene:
    """Shapes in the order in which they are painted, on paper. Sizes are pixels."""

    width: int
    height: int
    title: str
    shapes: tuple[Area | Line | Label, ...]


def box(x: float, y: float, width: float, height: float, fill: str, about: str = "") -> Area:
    """Make a rectangle."""
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    return Area(corners, fill, about)
