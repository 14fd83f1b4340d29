"""Memory over time as a drawing: a panel a tier, stacked by kind, under the budget's line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import attrs

from wanflow.trace.by_kind import WORDS
from wanflow.trace.cells import Curve
from wanflow.trace.exports.curve import Curves
from wanflow.trace.exports.follow import KINDS
from wanflow.trace.exports.scene import Anchor, Area, Label, Line, Scene, box
from wanflow.trace.summary import Summary
from wanflow.units import format_bytes, format_seconds

COLUMNS = 840
_LEFT, _RIGHT, _TOP, _GAP, _BOTTOM = 84, 24, 92, 52, 76
_BARE_TOP, _BARE_BOTTOM = 24, 28  # without heading and legend
_HEIGHTS = (300, 130, 130)
_LETTER = 6.2  # pixels of one at the size of a stage's name
_WORDS = {**WORDS, "other": "unexplained", "aside": "set aside", "budget": "budget",
          "peak_of": "peak"}  # fmt: skip


@attrs.frozen
class _Panel:
    """Where one tier is drawn. `aside_bytes` are below all that events tell of."""

    tier: str
    curve: Curve
    top: float
    height: float
    aside_bytes: int = 0
    budget_bytes: int | None = None

    @property
    def most_bytes(self) -> int:
        peak = self.curve.peak.resident_bytes + self.aside_bytes
        return max(peak, self.budget_bytes or 0, 1)

    def y(self, nbytes: int) -> float:
        return self.top + self.height * (1 - nbytes / (self.most_bytes * 1.04))


def chart(curves: Curves, summary: Summary, aside_bytes: int) -> Scene:
    """Draw the budget's tier and the two fullest others; no event has the *aside_bytes*."""
    panels = _panels(curves, summary, aside_bytes, _TOP)
    bottom = _bottom(panels, _TOP)
    shapes = (*_heading(summary), *_plot(curves, panels, _TOP, _WORDS), *_legend(panels, bottom))
    title = f"Memory over time: {summary.graph or 'a run'}"
    return Scene(_LEFT + COLUMNS + _RIGHT, round(bottom + _BOTTOM), title, shapes)


def bare_chart(curves: Curves, summary: Summary, words: Mapping[str, str]) -> Scene:
    """Draw the budget's tier alone, in other *words*, for a page that has a heading and a key."""
    panels = _panels(curves, summary, 0, _BARE_TOP)[:1]
    bottom = _bottom(panels, _BARE_TOP)
    title = f"{words['over_time']}: {format_bytes(summary.peak_bytes)}"
    shapes = tuple(_plot(curves, panels, _BARE_TOP, words))
    return Scene(_LEFT + COLUMNS + _RIGHT, round(bottom + _BARE_BOTTOM), title, shapes)


def _panels(curves: Curves, summary: Summary, aside_bytes: int, top: float) -> list[_Panel]:
    main = summary.budget_tier
    peaks = {tier: curve.peak.resident_bytes for tier, curve in curves.tiers.items()}
    order = sorted(peaks, key=lambda tier: (tier != main, -peaks[tier], tier))
    panels: list[_Panel] = []
    for tier, height in zip(order, _HEIGHTS, strict=False):
        own = (aside_bytes, summary.budget_bytes) if tier == main else ()
        panels.append(_Panel(tier, curves.tiers[tier], top, height, *own))
        top += height + _GAP
    return panels


def _bottom(panels: Sequence[_Panel], top: float) -> float:
    return panels[-1].top + panels[-1].height if panels else top


def _plot(
    curves: Curves, panels: Sequence[_Panel], top: float, words: Mapping[str, str]
) -> Iterator[Area | Line | Label]:
    bottom = _bottom(panels, top)
    yield from _bands(curves, top, bottom)
    for panel in panels:
        yield from _ticks(panel)
        yield from _stack(panel, words)
        yield from _marks(panel, curves.last_ns, words)
    yield from _stage_names(curves, top)
    yield from _time_axis(curves, bottom)


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
    fill = "strong" if summary.problem else "ink"
    yield Label((_LEFT, 48), _short(", ".join(parts), 130), 12, fill=fill)


def _bands(curves: Curves, top: float, bottom: float) -> Iterator[Area]:
    """Every other stage stands on grey."""
    for _name, first, end in curves.stages[::2]:
        yield box(_LEFT + first, top, end - first, bottom - top, "soft")


def _stage_names(curves: Curves, top: float) -> Iterator[Label]:
    """Names where there is room for them."""
    for name, first, end in curves.stages:
        letters = int((end - first - 4) / _LETTER)
        if letters >= 3:
            middle = _LEFT + (first + end) / 2
            yield Label((middle, top - 8), _short(name, letters), 11, "middle")


def _ticks(panel: _Panel) -> Iterator[Line | Label]:
    step = 1 << max(math.ceil(math.log2(panel.most_bytes / (panel.height / 45))), 0)
    for nbytes in range(0, panel.most_bytes + 1, step):
        y = panel.y(nbytes)
        yield Line(((_LEFT, y), (_LEFT + COLUMNS, y)), "line")
        yield Label((_LEFT - 8, y + 4), format_bytes(nbytes), 11, "end")
    yield Label((8, panel.top - 8), _short(panel.tier, 11), 12)


def _stack(panel: _Panel, words: Mapping[str, str]) -> Iterator[Area]:
    """One area a kind, the lower ones first."""
    levels = [level.by_kind for level in panel.curve.cells]
    rows = {kind: [max(by_kind[kind], 0) for by_kind in levels] for kind in KINDS}
    floors = [0] * len(levels)
    for kind, heights in {"aside": [panel.aside_bytes] * len(levels), **rows}.items():
        if any(heights):
            tops = [floor + height for floor, height in zip(floors, heights, strict=True)]
            yield _area(panel, floors, tops, kind, words[kind])
            floors = tops


def _area(panel: _Panel, floors: list[int], tops: list[int], kind: str, word: str) -> Area:
    most = max(top - floor for top, floor in zip(tops, floors, strict=True))
    above = _steps(panel, tops)
    below = _steps(panel, floors)
    return Area((*above, *reversed(below)), kind, f"{word}: at most {format_bytes(most)}")


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


def _marks(panel: _Panel, last_ns: int, words: Mapping[str, str]) -> Iterator[Line | Label]:
    right, budget = _LEFT + COLUMNS, panel.budget_bytes
    if budget:
        y = panel.y(budget)
        text = f"{words['budget']} {format_bytes(budget)}"
        yield Line(((_LEFT, y), (right, y)), "strong", 1.5, dashed=True)
        yield Label((right, y - 5), text, 11, "end", "strong")
    peak = panel.curve.peak
    if peak.resident_bytes:
        nbytes = peak.resident_bytes + panel.aside_bytes
        x, y = _LEFT + min(peak.at_ns / last_ns, 1) * COLUMNS, panel.y(nbytes)
        yield Line(((x - 6, y), (x + 6, y)), "ink", 2)
        near = budget is not None and y - panel.y(budget) < 24
        at = (x, y + 16 if near or y - panel.top < 24 else y - 6)
        yield Label(at, f"{words['peak_of']} {format_bytes(nbytes)}", 11, _side(x))


def _side(x: float) -> Anchor:
    return "start" if x < _LEFT + 60 else "end" if x > _LEFT + COLUMNS - 60 else "middle"


def _time_axis(curves: Curves, bottom: float) -> Iterator[Line | Label]:
    seconds = curves.last_ns / 1e9
    step = _round_step(seconds / 8)
    yield Line(((_LEFT, bottom), (_LEFT + COLUMNS, bottom)), "ink")
    for number in range(int(seconds / step) + 1):
        x = _LEFT + number * step / seconds * COLUMNS
        yield Line(((x, bottom), (x, bottom + 5)), "ink")
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


def _legend(panels: Sequence[_Panel], bottom: float) -> Iterator[Area | Label]:
    aside = ["aside"] if any(panel.aside_bytes for panel in panels) else []
    x, y = float(_LEFT), bottom + 48
    for kind in (*aside, *KINDS):
        yield box(x, y - 10, 12, 12, kind)
        yield Label((x + 18, y), _WORDS[kind], 12)
        x += 36 + 7 * len(_WORDS[kind])


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 2, 1)] + ".."
