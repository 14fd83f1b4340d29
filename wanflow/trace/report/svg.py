"""Memory over time as inline SVG: the kinds stacked, the budget's line, the stages below."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import groupby

from wanflow.trace.listing import printable
from wanflow.trace.timeline import KINDS, Timeline
from wanflow.units import format_bytes, format_seconds

_WIDTH, _HEIGHT = 960, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 10, 14, 44
_TICKS = 4
_LETTER = 7  # what a letter of a label takes


def chart(found: Timeline, say: Mapping[str, str]) -> str:
    """Draw *found*, with a key under it; each cell tells its figures when pointed at."""
    top = max(found.peak_bytes, found.budget_bytes or 0, 1)
    parts = [*_grid(found, top), *_areas(found, top), *_budget(found, top, say), *_stages(found)]
    label = escape(f"{say['over_time']}: {format_bytes(found.peak_bytes)}")
    drawn = "\n".join(parts)
    key = "".join(
        f'<span><i style="background:var(--{kind})"></i>{escape(say[kind])}</span>'
        for kind in KINDS
        if any(found.by_kind[kind])
    )
    head = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
    return f'<div class="wide">{head}\n{drawn}\n</svg></div>\n<p class="key">{key}</p>'


def _x(index: float, cells: int) -> float:
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * index / max(1, cells), 1)


def _y(nbytes: int, top: int) -> float:
    return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * nbytes / top, 1)


def _grid(found: Timeline, top: int) -> list[str]:
    lines = []
    for tick in range(_TICKS + 1):
        nbytes = top * tick // _TICKS
        y = _y(nbytes, top)
        lines.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="var(--line)"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{format_bytes(nbytes)}</text>'
        )
    y = _HEIGHT - 8
    began, ended = map(format_seconds, (found.began_seconds, found.ended_seconds))
    lines.append(f'<text x="{_LEFT}" y="{y}">{began}</text>')
    lines.append(f'<text x="{_WIDTH - _RIGHT}" y="{y}" text-anchor="end">{ended}</text>')
    return lines


def _areas(found: Timeline, top: int) -> list[str]:
    """Stack the kinds as steps, one area each; an overlay tells the whole of each cell."""
    cells = len(found.level)
    floor, areas = [0] * cells, []
    for kind in KINDS:
        ceiling = [low + max(0, n) for low, n in zip(floor, found.by_kind[kind], strict=True)]
        if ceiling != floor:
            points = [*_steps(ceiling, top), *reversed(_steps(floor, top))]
            path = " ".join(f"{x},{y}" for x, y in points)
            areas.append(f'<polygon points="{path}" fill="var(--{kind})"/>')
        floor = ceiling
    seconds = (found.ended_seconds - found.began_seconds) / max(1, cells)
    for index, nbytes in enumerate(found.level):
        x, y = _x(index, cells), _y(nbytes, top)
        width, at = _x(index + 1, cells) - x, found.began_seconds + index * seconds
        tip = escape(f"{format_seconds(at)}: {format_bytes(nbytes)}")
        areas.append(
            f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{_HEIGHT - _BOTTOM - y:.1f}" '
            f'fill="transparent"><title>{tip}</title></rect>'
        )
    return areas


def _steps(heights: list[int], top: int) -> list[tuple[float, float]]:
    cells = len(heights)
    return [
        (_x(index + side, cells), _y(nbytes, top))
        for index, nbytes in enumerate(heights)
        for side in (0, 1)
    ]


def _budget(found: Timeline, top: int, say: Mapping[str, str]) -> list[str]:
    if found.budget_bytes is None:
        return []
    y, text = _y(found.budget_bytes, top), f"{say['budget']} {format_bytes(found.budget_bytes)}"
    style = 'stroke="var(--strong)" stroke-width="1.5" stroke-dasharray="6 4"'
    right = _WIDTH - _RIGHT
    return [
        f'<line x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}" {style}/>',
        f'<text x="{right}" y="{max(y - 4, 10)}" text-anchor="end">{escape(text)}</text>',
    ]


def _stages(found: Timeline) -> list[str]:
    """Name the stages below the axis, where there is room for the name."""
    bands, index, y = [], 0, _HEIGHT - _BOTTOM + 4
    for name, group in groupby(found.stages):
        count = len(list(group))
        x, width = _x(index, len(found.stages)), _x(count, len(found.stages)) - _LEFT
        index += count
        if not name:
            continue
        safe, room = printable(name), int(width // _LETTER)
        bands.append(
            f'<rect x="{x}" y="{y}" width="{width:.1f}" height="18" fill="var(--soft)" '
            f'stroke="var(--line)"><title>{escape(safe)}</title></rect>'
        )
        if len(safe) <= room:
            bands.append(f'<text x="{x + 4}" y="{y + 13}">{escape(safe)}</text>')
    return bands
