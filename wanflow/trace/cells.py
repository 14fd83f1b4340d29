"""Time cut into cells: what a tier held at the fullest in each, and which stage was at work.

Bounded: cells and stages, not events.
"""

from __future__ import annotations

import attrs

from wanflow.trace.by_kind import ByKind
from wanflow.trace.events import Event, Step, Workspace
from wanflow.trace.levels import Level

MOST_STAGES = 4096  # a trace is anybody's


@attrs.frozen
class Window:
    """The time that the cells cover."""

    began_ns: int
    ended_ns: int
    cells: int

    def at(self, at_ns: int) -> int:
        """Give the cell of an instant, the first or the last for one outside."""
        length = max(1, self.ended_ns - self.began_ns)
        return min(self.cells - 1, max(0, (at_ns - self.began_ns) * self.cells // length))

    def over(self, began_ns: int, ended_ns: int) -> range:
        """Give the cells of a time; none where nothing lasts, or where it lies outside."""
        if ended_ns <= began_ns or ended_ns < self.began_ns or began_ns > self.ended_ns:
            return range(0)
        return range(self.at(began_ns), self.at(ended_ns - 1) + 1)

    def fill(self, cells: list[int], began_ns: int, ended_ns: int, nbytes: int) -> None:
        """Put bytes into the cells of a time, where there are not more already."""
        for index in self.over(began_ns, ended_ns):
            cells[index] = max(cells[index], nbytes)


NOTHING = Level("", 0, "", 0, 0, ByKind())


@attrs.define
class Curve:
    """The fullest level of one tier in each cell, filled up to the last change."""

    window: Window
    cells: list[Level] = attrs.field(init=False)
    _now: Level = attrs.field(default=NOTHING, init=False)
    _since_ns: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.cells = [NOTHING] * self.window.cells
        self._since_ns = self.window.began_ns

    def see(self, level: Level) -> None:
        """Take a level that holds from its instant on."""
        self.fill(self._now, self._since_ns, level.at_ns)
        self._now, self._since_ns = level, max(self._since_ns, level.at_ns)

    def end(self) -> None:
        """What is there at the very end is in the last cell."""
        self.fill(self._now, self._since_ns, self.window.ended_ns + 1)

    def fill(self, level: Level, began_ns: int, ended_ns: int) -> None:
        """Put a level into the cells of a time, where there is not a higher one already."""
        for index in self.window.over(began_ns, ended_ns):
            if level.resident_bytes > self.cells[index].resident_bytes:
                self.cells[index] = level

    @property
    def peak(self) -> Level:
        """The first of the fullest."""
        return max(self.cells, key=lambda level: level.resident_bytes)

    @property
    def resident_bytes(self) -> list[int]:
        """The most in each cell."""
        return [level.resident_bytes for level in self.cells]


@attrs.define
class Interval:
    """A time."""

    began_ns: int
    ended_ns: int


@attrs.define
class WorkTimes:
    """The time of each stage, from its first call or step to its last."""

    stages: dict[str, Interval] = attrs.field(factory=dict)

    def see(self, event: Event) -> None:
        """Follow one event."""
        if not isinstance(event, Workspace | Step):
            return
        if event.stage in self.stages or len(self.stages) < MOST_STAGES:
            time = self.stages.setdefault(event.stage, Interval(event.began_ns, event.ended_ns))
            time.began_ns = min(time.began_ns, event.began_ns)
            time.ended_ns = max(time.ended_ns, event.ended_ns)

    def names(self, window: Window) -> tuple[str, ...]:
        """Name the stage at work in each cell: of those that share it, the one that began last."""
        names = [""] * window.cells
        for name, time in sorted(self.stages.items(), key=lambda item: item[1].began_ns):
            if time.ended_ns >= window.began_ns and time.began_ns <= window.ended_ns:
                for index in range(window.at(time.began_ns), window.at(time.ended_ns - 1) + 1):
                    names[index] = name
        return tuple(names)
