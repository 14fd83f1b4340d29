"""A drawing as plain shapes, so that an SVG and a PNG of it show the same."""

from __future__ import annotations

from typing import Literal

import attrs

Point = tuple[float, float]
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
    fill: str = "#333333"


@attrs.frozen
class Scene:
    """Shapes in the order in which they are painted, on white. Sizes are pixels."""

    width: int
    height: int
    title: str
    shapes: tuple[Area | Line | Label, ...]


def box(x: float, y: float, width: float, height: float, fill: str, about: str = "") -> Area:
    """Make a rectangle."""
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    return Area(corners, fill, about)
