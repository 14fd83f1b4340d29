"""Memory over time as a drawing: a panel a tier, stacked by kind, under the budget's line."""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs

from wanflow.trace.exports.curve import Curve, Curves
from wanflow.trace.exports.follow import KINDS
from wanflow.trace.exports.scene import Anchor, Area, Label, Line, Scene, box
from wanflow.trace.summary import Summary
from wanflow.units import format_bytes, format_seconds

COLUMNS = 840
_LEFT, _RIGHT, _TOP, _GAP, _BOTTOM = 84, 24, 92, 52, 76
_HEIGHTS = (300, 130, 130)
_ASIDE = ("set aside", "#b8bcc4")
_KINDS = dict(
    zip(
        KINDS,
        (("weights", "#4477aa"), ("states", "#aa3377"), ("values", "#ccbb44"),
         ("workspace", "#66ccee"), ("allocator slack", "#88aa99")),
        strict=True,
    )
)  # fmt: skip
_OTHER = ("unexplained", "#777777")
_RED, _GREY, _INK = "#cc3311", "#d9dce1", "#333333"
_LETTER = 6.2  # pixels of one at the size of a stage's name


@attrs.frozen
class _Panel:
    """Where one tier is drawn. `aside_bytes` are below all that events tell of."""

    tier: str
    curve: Curve
    top: float
    height: float
    aside_bytes: int
    budget_bytes: int | None

    @property
    def most_bytes(self) -> int:
        return max(self.curve.peak_bytes + self.aside_bytes, self.budget_bytes or 0, 1)

    def y(self, nbytes: int) -> float:
        return self.top + self.height * (1 - nbytes / (self.most_bytes * 1.04))


def chart(curves: Curves, summary: Summary, aside_bytes: int) -> Scene:
    """Draw the budget's tier and the two fullest others; no event has the *aside_bytes*."""
    panels = _panels(curves, summary, aside_bytes)
    bottom = panels[-1].top + panels[-1].height if panels else _TOP
    width = _LEFT + COLUMNS + _RIGHT
    shapes: list[Area | Line | Label] = [*_heading(summary), *_bands(curves, bottom)]
    for panel in panels:
        shapes += [*_ticks(panel), *_stack(panel), *_marks(panel, curves.last_ns)]
    shapes += [*_stage_names(curves), *_time_axis(curves, bottom), *_legend(panels, bottom)]
    title = f"Memory over time: {summary.graph or 'a run'}"
    return Scene(width, round(bottom + _BOTTOM), title, tuple(shapes))


def _panels(curves: Curves, summary: Summary, aside_bytes: int) -> list[_Panel]:
    main = summary.budget_tier
    order = sorted(curves.tiers, key=lambda t: (t != main, -curves.tiers[t].peak_bytes, t))
    panels: list[_Panel] = []
    top = float(_TOP)
    for tier, height in zip(order, _HEIGHTS, strict=False):
        ours = tier == main
        budget = summary.budget_bytes if ours else None
        aside = aside_bytes if ours else 0
        panels.append(_Panel(tier, curves.tiers[tier], top, height, aside, budget))
        top += height + _GAP
    return panels


def _heading(summary: Summary) -> Iterator[Label]:
    kind = "a simulated run of" if summary.simulated else "a run of"
    where = f" on {summary.device}" if summary.device else ""
    yield Label((_LEFT, 28), _short(f"{kind} {summary.graph or 'a graph'}{where}", 90), 17)
    parts = [f"{format_seconds(summary.seconds)}"]
    if summary.peak is not None:
        at = f" at {summary.peak.stage}" if summary.peak.stage else ""
        parts.append(f"peak of what was given out {format_bytes(summary.peak_bytes)}{at}")
    if summary.predicted_peak_bytes:
        parts.append(f"predicted in all {format_bytes(summary.predicted_peak_bytes)}")
    if summary.problem:
        parts = [f"the trace is {summary.state}: {summary.problem}", *parts]
    fill = _RED if summary.problem else _INK
    yield Label((_LEFT, 48), _short(", ".join(parts), 130), 12, fill=fill)


def _bands(curves: Curves, bottom: float) -> Iterator[Area]:
    """Every other stage stands on grey."""
    for began, ended in [span[1:] for span in curves.stages[::2]]:
        left, right = _x(curves, began), _x(curves, ended)
        yield box(left, _TOP, max(right - left, 0.5), bottom - _TOP, "#f3f4f6")


def _stage_names(curves: Curves) -> Iterator[Label]:
    """Names where there is room for them."""
    for name, began, ended in curves.stages:
        left, right = _x(curves, began), _x(curves, ended)
        letters = int((right - left - 4) / _LETTER)
        if letters >= 3:
            yield Label(((left + right) / 2, _TOP - 8), _short(name, letters), 11, "middle")


def _ticks(panel: _Panel) -> Iterator[Line | Label]:
    step = 1 << max(math.ceil(math.log2(panel.most_bytes / (panel.height / 45))), 0)
    for nbytes in range(0, panel.most_bytes + 1, step):
        y = panel.y(nbytes)
        yield Line(((_LEFT, y), (_LEFT + COLUMNS, y)), _GREY)
        yield Label((_LEFT - 8, y + 4), format_bytes(nbytes), 11, "end")
    yield Label((8, panel.top - 8), _short(panel.tier, 11), 12)


def _stack(panel: _Panel) -> Iterator[Area]:
    """One area a kind, the lower ones first."""
    floors = [panel.aside_bytes] * len(panel.curve.columns)
    if panel.aside_bytes:
        yield _area(panel, [0] * len(floors), floors, *_ASIDE)
    rows = [[column.by_kind[i] for column in panel.curve.columns] for i in range(len(KINDS))]
    known = [sum(column.by_kind) for column in panel.curve.columns]
    rest = [max(c.resident_bytes - k, 0) for c, k in zip(panel.curve.columns, known, strict=True)]
    for (name, fill), heights in zip((*_KINDS.values(), _OTHER), (*rows, rest), strict=True):
        if not any(heights):
            continue
        tops = [floor + height for floor, height in zip(floors, heights, strict=True)]
        yield _area(panel, floors, tops, name, fill)
        floors = tops


def _area(panel: _Panel, floors: list[int], tops: list[int], name: str, fill: str) -> Area:
    most = max(top - floor for top, floor in zip(tops, floors, strict=True))
    above = _steps(panel, tops)
    below = _steps(panel, floors)
    return Area((*above, *reversed(below)), fill, f"{name}: at most {format_bytes(most)}")


def _steps(panel: _Panel, levels: list[int]) -> list[tuple[float, float]]:
    """The corners of a stair, those on a straight line left out."""
    points: list[tuple[float, float]] = []
    before: int | None = None
    for column, nbytes in enumerate(levels):
        if nbytes != before:
            if before is not None:
                points.append((_LEFT + column, panel.y(before)))
            points.append((_LEFT + column, panel.y(nbytes)))
            before = nbytes
    points.append((_LEFT + len(levels), panel.y(before or 0)))
    return points


def _marks(panel: _Panel, last_ns: int) -> Iterator[Line | Label]:
    right = _LEFT + COLUMNS
    if panel.budget_bytes:
        y = panel.y(panel.budget_bytes)
        yield Line(((_LEFT, y), (right, y)), _RED, 1.5, dashed=True)
        yield Label((right, y - 5), f"budget {format_bytes(panel.budget_bytes)}", 11, "end", _RED)
    peak = panel.curve.peak_bytes + panel.aside_bytes
    if panel.curve.peak_bytes:
        x = _LEFT + min(panel.curve.peak_ns / last_ns, 1) * COLUMNS
        y = panel.y(peak)
        yield Line(((x - 6, y), (x + 6, y)), _INK, 2)
        near = panel.budget_bytes is not None and y - panel.y(panel.budget_bytes) < 24
        below = near or y - panel.top < 24
        yield Label((x, y + 16 if below else y - 6), f"peak {format_bytes(peak)}", 11, _side(x))


def _side(x: float) -> Anchor:
    return "start" if x < _LEFT + 60 else "end" if x > _LEFT + COLUMNS - 60 else "middle"


def _time_axis(curves: Curves, bottom: float) -> Iterator[Line | Label]:
    seconds = curves.last_ns / 1e9
    step = _round_step(seconds / 8)
    yield Line(((_LEFT, bottom), (_LEFT + COLUMNS, bottom)), _INK)
    for number in range(int(seconds / step) + 1):
        x = _LEFT + number * step / seconds * COLUMNS
        yield Line(((x, bottom), (x, bottom + 5)), _INK)
        yield Label((x, bottom + 19), _time(number * step, step), 11, "middle")


def _time(seconds: float, step: float) -> str:
    if step >= 0.01:
        return format_seconds(seconds)
    return f"{seconds * 1000:.4g} ms"


def _round_step(least: float) -> float:
    """The next of 1, 2, 5, 10, ...; above a minute whole minutes and hours."""
    if least > 20:
        fine = (30, 60, 120, 300, 600, 1200, 1800, 3600)
        return next((s for s in fine if s >= least), 3600 * math.ceil(least / 3600))
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * 0.999)


def _legend(panels: list[_Panel], bottom: float) -> Iterator[Area | Label]:
    aside = [_ASIDE] if any(panel.aside_bytes for panel in panels) else []
    x, y = float(_LEFT), bottom + 48
    for name, fill in (*aside, *_KINDS.values(), _OTHER):
        yield box(x, y - 10, 12, 12, fill)
        yield Label((x + 18, y), name, 12)
        x += 36 + 7 * len(name)


def _x(curves: Curves, at_ns: int) -> float:
    return _LEFT + min(at_ns / curves.last_ns, 1) * COLUMNS


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 2, 1)] + ".."
