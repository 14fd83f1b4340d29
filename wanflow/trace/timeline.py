"""Memory over time: a row an object, and the whole tier, in as many cells as a screen has.

Two passes: one for how long and how large everything is, one that fills the cells. Kept are the
names, never the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from wanflow.trace.by_kind import KINDS
from wanflow.trace.cells import Curve, Interval, Window, WorkTimes
from wanflow.trace.events import Event, Kind, Move, Step, Transfer, Verb, Workspace
from wanflow.trace.levels import MORE, MOST_OBJECTS, Residency, Source
from wanflow.trace.plain import plain

_NS = 1e9
Key = tuple[Kind, str]


@attrs.frozen
class Row:
    """One object, all that came under its name: the most bytes in each cell of the time.

    The workspaces of the calls of one kind are one object, `call KIND`.
    """

    name: str
    kind: str
    stage: str
    most_bytes: int
    first_seconds: float
    last_seconds: float
    times: int
    cells: tuple[int, ...]


@attrs.frozen
class Timeline:
    """A tier from `began_seconds` to `ended_seconds`. `level` is the most on it in each cell.

    `overhead_bytes` of the budget lie below all levels: no event counts them.
    `by_kind` says of what that most is made, by the names of `KINDS`.
    `stages` names the stage at work in each cell. `left_out` rows are smaller than those here.
    """

    tier: str
    budget_bytes: int | None
    overhead_bytes: int
    began_seconds: float
    ended_seconds: float
    peak_bytes: int
    level: tuple[int, ...]
    by_kind: dict[str, tuple[int, ...]]
    stages: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        """Give what `trace timeline --json` prints."""
        return plain(self)


@attrs.define
class _Life:
    """What came under one name."""

    stage: str
    first_ns: int
    last_ns: int = 0
    now_bytes: int = 0
    most_bytes: int = 0
    since_ns: int = 0
    times: int = 0
    byte_ns: int = 0

    def change(self, at_ns: int, nbytes: int) -> None:
        self.byte_ns += self.now_bytes * max(0, at_ns - self.since_ns)
        self.now_bytes = max(0, self.now_bytes + nbytes)
        self.most_bytes = max(self.most_bytes, self.now_bytes)
        self.times += nbytes > 0
        self.since_ns = self.last_ns = at_ns


def timeline(
    events: Source,
    tier: str,
    budget_bytes: int | None = None,
    *,
    overhead_bytes: int = 0,
    cells: int = 60,
    rows: int = 20,
    stage: str | None = None,
) -> Timeline:
    """Draw a tier over the time of the run, or of one stage; *rows* objects, the heaviest ones.

    The heaviest are those that most bytes lay for the longest time under.
    """
    lives, window, times = _lives(events(), tier, stage, cells)
    heaviest = sorted(lives, key=lambda key: (-lives[key].byte_ns, -lives[key].most_bytes, key[1]))
    chosen = heaviest[:rows]
    drawn: dict[Key, list[int]] = {key: [0] * cells for key in chosen}
    curve = _draw(events(), tier, window, drawn)
    level = curve.resident_bytes
    chosen.sort(key=lambda key: (lives[key].first_ns, key[1]))
    return Timeline(
        tier, budget_bytes, overhead_bytes, window.began_ns / _NS, window.ended_ns / _NS,
        max(level, default=0), tuple(level),
        {kind: tuple(cell.by_kind[kind] for cell in curve.cells) for kind in KINDS},
        times.names(window),
        tuple(_row(key, lives[key], drawn[key]) for key in chosen), len(heaviest) - len(chosen),
    )  # fmt: skip


def _row(key: Key, life: _Life, cells: Sequence[int]) -> Row:
    kind, name = key
    first, last = life.first_ns / _NS, life.last_ns / _NS
    return Row(name, str(kind), life.stage, life.most_bytes, first, last, life.times, tuple(cells))


def _lives(
    events: Iterator[Event] | Any, tier: str, stage: str | None, cells: int
) -> tuple[dict[Key, _Life], Window, WorkTimes]:
    """Read once: the life of every name, the time of all, the time of each stage."""
    lives: dict[Key, _Life] = {}
    times = WorkTimes()
    last_ns = 0
    for event in events:
        times.see(event)
        if isinstance(event, Move | Workspace | Step | Transfer):
            last_ns = max(last_ns, event.ended_ns)
        if isinstance(event, Move | Workspace) and event.tier == tier:
            for key, at_ns, nbytes in _changes(event):
                _life(lives, key, event, at_ns).change(at_ns, nbytes)
    for life in lives.values():
        life.change(max(last_ns, life.since_ns), 0)
    whole_run = Interval(0, last_ns)
    time = whole_run if stage is None else times.stages.get(stage, whole_run)
    return lives, Window(time.began_ns, max(time.ended_ns, time.began_ns + 1), cells), times


def _life(lives: dict[Key, _Life], key: Key, event: Move | Workspace, at_ns: int) -> _Life:
    if key not in lives and len(lives) >= MOST_OBJECTS:
        key = (key[0], MORE)
    life = lives.get(key)
    if life is None:
        life = lives[key] = _Life(event.stage, at_ns, since_ns=at_ns)
    return life


def _changes(event: Move | Workspace) -> tuple[tuple[Key, int, int], ...]:
    """Give what an event changes: an object, when, by how many bytes."""
    if isinstance(event, Workspace):
        key = (Kind.WORKSPACE, f"call {event.name}")  # beside the weights it is named for
        return (key, event.began_ns, event.nbytes), (key, event.ended_ns, -event.nbytes)
    key = (event.kind, event.name)
    if event.verb is Verb.FREE:
        return ((key, event.ended_ns, -event.nbytes),)
    return ((key, event.began_ns, event.nbytes),)


def _draw(
    events: Iterator[Event] | Any, tier: str, window: Window, drawn: dict[Key, list[int]]
) -> Curve:
    """Read again: fill the rows, and draw the whole tier."""
    curve = Curve(window)
    residency = Residency()
    now: dict[Key, tuple[int, int]] = {}  # bytes, since when
    for event in events:
        if not isinstance(event, Move | Workspace) or event.tier != tier:
            continue
        for change in residency.see(event):
            curve.see(change)
        for key, at_ns, nbytes in _changes(event):
            if key in drawn:
                had, began = now.get(key, (0, at_ns))
                window.fill(drawn[key], began, at_ns, had)
                now[key] = (max(0, had + nbytes), at_ns)
    curve.end()
    for key, (nbytes, began) in now.items():
        window.fill(drawn[key], began, window.ended_ns + 1, nbytes)
    return curve
