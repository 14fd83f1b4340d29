"""A scene as a PNG file, painted by Pillow: two of its pixels for one of the scene's."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from wanflow.terminal.safe import printable
from wanflow.trace.exports.scene import PALETTE, Anchor, Area, Label, Line, Point, Scene

_SCALE = 2
_ANCHORS: dict[Anchor, str] = {"start": "ls", "middle": "ms", "end": "rs"}
_DASH, _GAP = 6, 4


def png_bytes(scene: Scene) -> bytes:
    """Paint the scene. Pillow's own font is used: signs that it lacks show as boxes."""
    image = Image.new("RGB", (scene.width * _SCALE, scene.height * _SCALE), PALETTE["paper"])
    draw = ImageDraw.Draw(image)
    for shape in scene.shapes:
        _paint(draw, shape)
    out = BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _paint(draw: ImageDraw.ImageDraw, shape: Area | Line | Label) -> None:
    match shape:
        case Area():
            draw.polygon([_scaled(p) for p in shape.points], fill=PALETTE[shape.fill])
        case Line():
            pieces = _dashes(shape.points) if shape.dashed else [shape.points]
            for piece in pieces:
                width = max(round(shape.width * _SCALE), 1)
                draw.line([_scaled(p) for p in piece], fill=PALETTE[shape.stroke], width=width)
        case Label():
            font = ImageFont.load_default(shape.size * _SCALE)
            anchor = _ANCHORS[shape.anchor]
            text, fill = printable(shape.text), PALETTE[shape.fill]
            draw.text(_scaled(shape.at), text, fill=fill, font=font, anchor=anchor)


def _scaled(point: Point) -> Point:
    return (point[0] * _SCALE, point[1] * _SCALE)


def _dashes(points: tuple[Point, ...]) -> list[tuple[Point, ...]]:
    """Cut a level or upright line into dashes."""
    (x0, y0), (x1, y1) = points[0], points[-1]
    length = abs(x1 - x0) + abs(y1 - y0)
    pieces, at = [], 0.0
    while at < length:
        end = min(at + _DASH, length)
        ends = [(x0 + (x1 - x0) * t / length, y0 + (y1 - y0) * t / length) for t in (at, end)]
        pieces.append(tuple(ends))
        at += _DASH + _GAP
    return pieces
