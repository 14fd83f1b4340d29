"""A scene as an SVG file: nothing in it is fetched or run."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from wanflow.trace.exports.scene import Area, Label, Line, Point, Scene
from wanflow.trace.listing import printable

_FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', sans-serif"


def svg_text(scene: Scene) -> str:
    """Write the scene; every text in it is escaped."""
    size = f'width="{scene.width}" height="{scene.height}"'
    view = f'viewBox="0 0 {scene.width} {scene.height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} role="img" font-family="{_FONT}">',
        f"<title>{_text(scene.title)}</title>",
        f'<rect {size} fill="#ffffff"/>',
        *map(_shape, scene.shapes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _shape(shape: Area | Line | Label) -> str:
    match shape:
        case Area():
            about = f"<title>{_text(shape.about)}</title>" if shape.about else ""
            return f'<path d="{_path(shape.points)}Z" fill="{shape.fill}">{about}</path>'
        case Line():
            dash = ' stroke-dasharray="6 4"' if shape.dashed else ""
            stroke = f'stroke="{shape.stroke}" stroke-width="{shape.width:g}"{dash}'
            return f'<path d="{_path(shape.points)}" fill="none" {stroke}/>'
        case Label():
            x, y = shape.at
            style = f'font-size="{shape.size}" text-anchor="{shape.anchor}" fill="{shape.fill}"'
            return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{_text(shape.text)}</text>'


def _path(points: Iterable[Point]) -> str:
    """Steps say only what changes."""
    parts: list[str] = []
    before: tuple[str, str] | None = None
    for point in points:
        x, y = f"{point[0]:.1f}", f"{point[1]:.1f}"
        if before is None:
            parts.append(f"M{x} {y}")
        elif y == before[1]:
            parts.append(f"H{x}")
        elif x == before[0]:
            parts.append(f"V{y}")
        else:
            parts.append(f"L{x} {y}")
        before = (x, y)
    return "".join(parts)


def _text(text: str) -> str:
    return escape(printable(text))
