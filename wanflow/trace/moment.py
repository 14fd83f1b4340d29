"""Who was on a tier at its peak, or at any other time: each object, by stage and by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import attrs

from wanflow.trace.by_kind import ByKind
from wanflow.trace.events import Kind, Move, Verb, Workspace
from wanflow.trace.levels import Held, Level, Residency, Source
from wanflow.trace.plain import flat, plain
from wanflow.trace.turns import is_load

_NS = 1e9


@attrs.frozen
class Resident:
    """One object that is there; a call's workspace is one, under the call's name."""

    name: str
    kind: str
    stage: str
    step: int
    nbytes: int
    since_seconds: float


@attrs.frozen
class Moment:
    """A tier at one instant, in the turn of `stage`.

    `by_stage` is for whom the objects came; the largest come first.
    """

    tier: str
    at_seconds: float
    stage: str
    step: int
    resident_bytes: int
    by_kind: ByKind
    by_stage: dict[str, int]
    objects: tuple[Resident, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give what `trace peak --json` prints."""
        return flat(plain(self))


@attrs.define
class _Instant:
    """A level with what is held, and the call at work in it."""

    level: Level
    held: tuple[Held, ...]
    work: Workspace | None = None


def peak_moment(events: Source, tier: str) -> Moment | None:
    """Find the fullest moment of a tier and who was there; None for a tier that held nothing.

    The trace is read twice: once for the moment, once up to it.
    """
    number, most = -1, 0
    for index, event in enumerate(_on(events, tier)):
        if event.resident_bytes > most:
            number, most = index, event.resident_bytes
    return None if number < 0 else _moment(_upto(events, tier, number))


def moment_at(events: Source, tier: str, at_ns: int) -> Moment | None:
    """Say who was on a tier at a time; None before anything came."""
    residency = Residency()
    instant = None
    for event in _on(events, tier):
        if isinstance(event, Workspace):
            during, after = residency.see(event)
            if event.ended_ns > at_ns:
                # Written at its end, so the first that ends later is the one that was at work.
                if event.began_ns <= at_ns:
                    instant = _Instant(during, _copies(residency, tier), event)
                break
            instant = _Instant(after, ())
        elif _when(event) <= at_ns:
            instant = _Instant(residency.see(event)[0], ())
    if instant is None:
        return None
    instant.held = instant.held or _copies(residency, tier)
    return attrs.evolve(_moment(instant), at_seconds=at_ns / _NS)


def _upto(events: Source, tier: str, number: int) -> _Instant:
    """Replay to a record; if a call must have been at work, look for it: it is written later."""
    residency, source = Residency(), _on(events, tier)
    for event in islice(source, number):
        residency.see(event)
    event = next(source)
    instant = _Instant(residency.see(event)[0], _copies(residency, tier))
    if isinstance(event, Workspace):
        instant.work = event
        return instant
    turn = event if not is_load(event) else next((e for e in source if not is_load(e)), None)
    if turn is not None:
        instant.level = attrs.evolve(instant.level, stage=turn.stage, step=turn.step)
    if (other := instant.level.by_kind.other_bytes) > 0:
        level, later = instant.level, source if turn is None else chain([turn], source)
        work = next((e for e in later if isinstance(e, Workspace)), None)
        if work is not None and work.began_ns <= level.at_ns <= work.ended_ns:
            instant.work = work = attrs.evolve(work, nbytes=min(work.nbytes, other))
            by_kind = attrs.evolve(
                level.by_kind,
                workspace_bytes=level.by_kind.workspace_bytes + work.nbytes,
                other_bytes=other - work.nbytes,
            )
            instant.level = attrs.evolve(level, by_kind=by_kind)
    return instant


def _moment(instant: _Instant) -> Moment:
    level, work = instant.level, instant.work
    slack = level.by_kind.slack_bytes
    objects = [
        Resident(h.name, str(h.kind), h.stage, h.step, h.nbytes, h.since_ns / _NS)
        for h in instant.held
    ]
    if work is not None:
        since, own = work.began_ns / _NS, work.nbytes - slack
        objects.append(Resident(work.name, str(Kind.WORKSPACE), work.stage, work.step, own, since))
    by_stage: Counter[str] = Counter()
    for resident in objects:
        by_stage[resident.stage] += resident.nbytes
    by_stage[level.stage] += slack
    return Moment(
        level.tier, level.at_ns / _NS, level.stage, level.step, level.resident_bytes,
        level.by_kind, dict(by_stage.most_common()),
        tuple(sorted(objects, key=lambda resident: (-resident.nbytes, resident.name))),
    )  # fmt: skip


def _copies(residency: Residency, tier: str) -> tuple[Held, ...]:
    return tuple(map(attrs.evolve, residency.on(tier).objects.values()))


def _on(events: Source, tier: str) -> Iterator[Move | Workspace]:
    """Yield what changes one tier."""
    return (e for e in events() if isinstance(e, Move | Workspace) and e.tier == tier)


def _when(move: Move) -> int:
    return move.ended_ns if move.verb is Verb.FREE else move.began_ns
