"""A scene as an SVG file: nothing in it is fetched or run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape

from wanflow.terminal.safe import printable
from wanflow.trace.exports.scene import PALETTE, Area, Label, Line, Point, Scene

_FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', sans-serif"


Paint = Callable[[str], str]


def svg_text(scene: Scene) -> str:
    """Write the scene as a file of its own; every text in it is escaped."""
    size = f'width="{scene.width}" height="{scene.height}"'
    name = f'xmlns="http://www.w3.org/2000/svg" {size}'
    paper = f'<rect {size} fill="{PALETTE["paper"]}"/>'
    return _svg(scene, name, f'font-family="{_FONT}"', PALETTE.__getitem__, paper) + "\n"


def inline_svg(scene: Scene) -> str:
    """Write the scene for a page, whose style says what each colour is: `--weights`."""
    return _svg(scene, "", "", lambda colour: f"var(--{colour})")


def _svg(scene: Scene, name: str, font: str, paint: Paint, *first: str) -> str:
    view = f'viewBox="0 0 {scene.width} {scene.height}" role="img"'
    head = " ".join(part for part in ("<svg", name, view, font) if part)
    title = f"<title>{_text(scene.title)}</title>"
    shapes = (_shape(shape, paint) for shape in scene.shapes)
    return "\n".join([f"{head}>", title, *first, *shapes, "</svg>"])


def _shape(shape: Area | Line | Label, paint: Paint) -> str:
    match shape:
        case Area():
            about = f"<title>{_text(shape.about)}</title>" if shape.about else ""
            return f'<path d="{_path(shape.points)}Z" fill="{paint(shape.fill)}">{about}</path>'
        case Line():
            dash = ' stroke-dasharray="6 4"' if shape.dashed else ""
            stroke = f'stroke="{paint(shape.stroke)}" stroke-width="{shape.width:g}"{dash}'
            return f'<path d="{_path(shape.points)}" fill="none" {stroke}/>'
        case Label():
            x, y = shape.at
            style = f'text-anchor="{shape.anchor}" fill="{paint(shape.fill)}"'
            place = f'x="{x:.1f}" y="{y:.1f}" font-size="{shape.size}"'
            return f"<text {place} {style}>{_text(shape.text)}</text>"


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
