"""Memory over time: a row an object, and the whole tier, in as many cells as a screen has.

Two passes: one for how long and how large everything is, one that fills the cells. Kept are the
names, never the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from wanflow.trace.events import Event, Kind, Move, Step, Transfer, Verb, Workspace
from wanflow.trace.residency import MORE, MOST_OBJECTS, Level, Residency, Source

_NS = 1e9
KINDS = ("weights", "value", "state", "workspace", "slack", "other")
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

    `by_kind` says of what that most is made, by the names of `KINDS`.
    `stages` names the stage at work in each cell. `left_out` rows are smaller than those here.
    """

    tier: str
    budget_bytes: int | None
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
        return attrs.asdict(self, value_serializer=_as_list)


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

    def fill(self, cells: list[int], began_ns: int, ended_ns: int, nbytes: int) -> None:
        """Put bytes into the cells of a time, where there are not more already."""
        for index in self.over(began_ns, ended_ns):
            cells[index] = max(cells[index], nbytes)

    def over(self, began_ns: int, ended_ns: int) -> range:
        """Give the cells of a time; none where nothing lasts, or where it lies outside."""
        if ended_ns <= began_ns or ended_ns < self.began_ns or began_ns > self.ended_ns:
            return range(0)
        return range(self.at(began_ns), self.at(ended_ns - 1) + 1)


def timeline(
    events: Source,
    tier: str,
    budget_bytes: int | None = None,
    *,
    cells: int = 60,
    rows: int = 20,
    stage: str | None = None,
) -> Timeline:
    """Draw a tier over the time of the run, or of one stage; *rows* objects, the heaviest ones.

    The heaviest are those that most bytes lay for the longest time under.
    """
    lives, window, spans = _lives(events(), tier, stage, cells)
    wanted = sorted(lives, key=lambda key: (-lives[key].byte_ns, -lives[key].most_bytes, key[1]))
    chosen = wanted[:rows]
    drawn: dict[Key, list[int]] = {key: [0] * cells for key in chosen}
    highest = _fill(events(), tier, window, drawn)
    level = [each.resident_bytes for each in highest]
    chosen.sort(key=lambda key: (lives[key].first_ns, key[1]))
    return Timeline(
        tier, budget_bytes, window.began_ns / _NS, window.ended_ns / _NS, max(level, default=0),
        tuple(level),
        {kind: tuple(getattr(each, f"{kind}_bytes") for each in highest) for kind in KINDS},
        _stages(spans, window),
        tuple(_row(key, lives[key], drawn[key]) for key in chosen), len(wanted) - len(chosen),
    )  # fmt: skip


def _row(key: Key, life: _Life, cells: Sequence[int]) -> Row:
    kind, name = key
    first, last = life.first_ns / _NS, life.last_ns / _NS
    return Row(name, str(kind), life.stage, life.most_bytes, first, last, life.times, tuple(cells))


@attrs.define
class _Interval:
    began_ns: int
    ended_ns: int


def _lives(
    events: Iterator[Event] | Any, tier: str, stage: str | None, cells: int
) -> tuple[dict[Key, _Life], Window, dict[str, _Interval]]:
    """Read once: the life of every name, the time of all, the time of each stage."""
    lives: dict[Key, _Life] = {}
    spans: dict[str, _Interval] = {}
    last_ns = 0
    for event in events:
        if isinstance(event, Workspace | Step):
            span = spans.setdefault(event.stage, _Interval(event.began_ns, event.ended_ns))
            span.began_ns = min(span.began_ns, event.began_ns)
            span.ended_ns = max(span.ended_ns, event.ended_ns)
        if isinstance(event, Move | Workspace | Step | Transfer):
            last_ns = max(last_ns, event.ended_ns)
        if isinstance(event, Move | Workspace) and event.tier == tier:
            for key, at_ns, nbytes in _changes(event):
                _life(lives, key, event, at_ns).change(at_ns, nbytes)
    for life in lives.values():
        life.change(max(last_ns, life.since_ns), 0)
    span = spans.get(stage, _Interval(0, last_ns)) if stage is not None else _Interval(0, last_ns)
    return lives, Window(span.began_ns, max(span.ended_ns, span.began_ns + 1), cells), spans


def _life(lives: dict[Key, _Life], key: Key, event: Move | Workspace, at_ns: int) -> _Life:
    if key not in lives and len(lives) >= MOST_OBJECTS:
        key = (key[0], MORE)
    found = lives.get(key)
    if found is None:
        found = lives[key] = _Life(event.stage, at_ns, since_ns=at_ns)
    return found


def _changes(event: Move | Workspace) -> tuple[tuple[Key, int, int], ...]:
    """Give what an event changes: an object, when, by how many bytes."""
    if isinstance(event, Workspace):
        key = (Kind.WORKSPACE, f"call {event.name}")  # beside the weights it is named for
        return (key, event.began_ns, event.nbytes), (key, event.ended_ns, -event.nbytes)
    key = (event.kind, event.name)
    if event.verb is Verb.FREE:
        return ((key, event.ended_ns, -event.nbytes),)
    return ((key, event.began_ns, event.nbytes),)


def _fill(
    events: Iterator[Event] | Any, tier: str, window: Window, drawn: dict[Key, list[int]]
) -> list[Level]:
    """Read again: fill the rows, and give the highest level of the tier in each cell."""
    nothing = Level(tier, 0, "", 0, 0, 0, 0, 0, 0, 0)
    highest = [nothing] * window.cells
    residency = Residency()
    now: dict[Key, tuple[int, int]] = {}  # bytes, since when
    before, since = nothing, window.began_ns
    for event in events:
        if not isinstance(event, Move | Workspace) or event.tier != tier:
            continue
        for change in residency.see(event):
            _raise(highest, window, since, change.at_ns, before)
            before, since = change, max(since, change.at_ns)
        for key, at_ns, nbytes in _changes(event):
            if key in drawn:
                had, began = now.get(key, (0, at_ns))
                window.fill(drawn[key], began, at_ns, had)
                now[key] = (max(0, had + nbytes), at_ns)
    over = window.ended_ns + 1  # what is there at the very end is in the last cell
    _raise(highest, window, since, over, before)
    for key, (nbytes, began) in now.items():
        window.fill(drawn[key], began, over, nbytes)
    return highest


def _raise(
    highest: list[Level], window: Window, began_ns: int, ended_ns: int, level: Level
) -> None:
    for index in window.over(began_ns, ended_ns):
        if level.resident_bytes > highest[index].resident_bytes:
            highest[index] = level


def _stages(spans: dict[str, _Interval], window: Window) -> tuple[str, ...]:
    """Name the stage at work in each cell: of those that share it, the one that began last."""
    found = [""] * window.cells
    for name, span in sorted(spans.items(), key=lambda item: item[1].began_ns):
        if span.ended_ns < window.began_ns or span.began_ns > window.ended_ns:
            continue
        for index in range(window.at(span.began_ns), window.at(span.ended_ns - 1) + 1):
            found[index] = name
    return tuple(found)


def _as_list(_owner: object, _field: object, value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
