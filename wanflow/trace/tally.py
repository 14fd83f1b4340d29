"""Add events up as they stream by: per stage, per tier, per verb. Nothing is kept per event.

A million events pass through here: what moves and calls meet has no record made, and no `max()`.
"""

from __future__ import annotations

import operator
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import cast

import attrs

from wanflow.trace.codec import Row, event_of, row_of
from wanflow.trace.events import Event, Kind, Memory, Note, StageSpan, Step, Transfer, Verb
from wanflow.trace.measured import MeasuredPeaks

NOTES_KEPT = 20


@attrs.define
class Sum:
    """Moves of one verb: how many, their bytes, how long they took and were waited for."""

    moves: int = 0
    moved_bytes: int = 0
    moving_ns: int = 0
    waited_ns: int = 0

    def __add__(self, other: Sum) -> Sum:
        """Add two up."""
        return Sum(*map(operator.add, attrs.astuple(self), attrs.astuple(other)))


@attrs.define
class Traffic:
    """What one stage did to one tier; `peak_bytes` is all that lay there in the stage's turns."""

    in_bytes: int = 0
    out_bytes: int = 0
    freed_bytes: int = 0
    peak_bytes: int = 0


@attrs.define
class Peak:
    """The fullest moment of a tier: when, in whose turn, and what was there by kind.

    Of one that a load made, `stage` and `step` are those that it is for until its turn is known.
    """

    resident_bytes: int = 0
    stage: str = ""
    step: int = 0
    began_ns: int = 0
    ended_ns: int = 0
    by_kind: dict[Kind, int] = attrs.field(factory=dict)
    slack_bytes: int = 0  # of the workspace
    is_load: bool = False

    @property
    def missing_bytes(self) -> int:
        """Bytes that no object seen so far explains (negative: more objects than bytes)."""
        return self.resident_bytes - sum(self.by_kind.values())

    def explain(self, nbytes: int, ended_ns: int) -> None:
        """Credit a workspace, begun before the peak's end, that was in use at the peak."""
        if ended_ns >= self.began_ns and self.missing_bytes > 0:
            self.by_kind[Kind.WORKSPACE] += min(nbytes, self.missing_bytes)


@attrs.define
class TierTally:
    """The bytes on one tier now, by kind, and its peak.

    Counted by kind and not by name: the old and the new latents are here at once, as one name.
    """

    by_kind: dict[Kind, int] = attrs.field(factory=lambda: dict.fromkeys(Kind, 0))
    peak: Peak = attrs.field(factory=Peak)
    computes: bool = False


@attrs.define
class StageTally:
    """What one stage did. `arrivals` are moves counted before, when their room was taken."""

    first_ns: int | None = None
    last_ns: int = 0
    span: StageSpan | None = None
    compute_ns: int = 0
    steps: int = 0
    steps_total: int = 0
    exchanging_ns: int = 0
    verbs: defaultdict[Verb, Sum] = attrs.field(factory=lambda: defaultdict(Sum))
    arrivals: Sum = attrs.field(factory=Sum)
    tiers: defaultdict[str, Traffic] = attrs.field(factory=lambda: defaultdict(Traffic))

    @property
    def sums(self) -> Sum:
        """All moves of the stage."""
        return sum(self.verbs.values(), self.arrivals)


@attrs.define
class Tally:
    """The running totals of one trace."""

    events: int = 0
    last_ns: int = 0
    stages: defaultdict[str, StageTally] = attrs.field(factory=lambda: defaultdict(StageTally))
    tiers: defaultdict[str, TierTally] = attrs.field(factory=lambda: defaultdict(TierTally))
    measured: MeasuredPeaks = attrs.field(factory=MeasuredPeaks)
    notes: deque[Note] = attrs.field(factory=lambda: deque(maxlen=NOTES_KEPT))
    note_count: int = 0
    loaded: dict[str, int] = attrs.field(factory=dict)  # by tier, the most since the last call

    @property
    def verbs(self) -> dict[Verb, Sum]:
        """All moves of each verb. When what moved arrived is not among them."""
        none = Sum()
        stages = self.stages.values()
        return {verb: sum((s.verbs.get(verb, none) for s in stages), none) for verb in Verb}

    def add(self, event: Event) -> None:
        """Count *event*."""
        self.count((row_of(event),))

    def count(self, rows: Iterable[Row]) -> None:
        """Count events that are still rows."""
        for row in rows:
            self.events += 1
            counted = _COUNTED.get(row[0])
            if counted is not None:
                counted(self, row)

    def load(self, tier_name: str, resident_bytes: int) -> None:
        """Keep what a load made of a tier until it is known in whose turn it came."""
        if resident_bytes > self.loaded.get(tier_name, 0):
            self.loaded[tier_name] = resident_bytes

    def settle(self, stage_name: str, step: int) -> None:
        """Count what loads made of the tiers for the stage in whose turn they came."""
        tiers = self.stages[stage_name].tiers
        for name, most_bytes in self.loaded.items():
            traffic, peak = tiers[name], self.tiers[name].peak
            traffic.peak_bytes = max(traffic.peak_bytes, most_bytes)
            if peak.is_load:
                peak.stage, peak.step, peak.is_load = stage_name, step, False
        self.loaded.clear()

    def lasts(self, stage: StageTally, began_ns: int, ended_ns: int) -> None:
        """Stretch the run's time, and the stage's, over an event's."""
        if stage.first_ns is None or began_ns < stage.first_ns:
            stage.first_ns = began_ns
        if ended_ns > stage.last_ns:
            stage.last_ns = ended_ns
            if ended_ns > self.last_ns:  # noqa: PLR1730
                self.last_ns = ended_ns


def _move(tally: Tally, row: Row) -> None:
    (
        _, verb, kind, _, stage_name, step, source, tier_name, nbytes, resident_bytes,
        began_ns, ended_ns, waited_ns, _,
    ) = row  # fmt: skip
    stage, tier, freed = tally.stages[stage_name], tally.tiers[tier_name], verb is Verb.FREE
    traffic, moves = stage.tiers[tier_name], stage.verbs[verb]
    # Weights may come ahead, while another stage still runs: that is not the stage's own time.
    if freed or kind is not Kind.WEIGHTS:
        tally.lasts(stage, began_ns, ended_ns)
    moves.moves += 1
    moves.moved_bytes += nbytes
    moves.waited_ns += waited_ns
    if ended_ns > began_ns:
        moves.moving_ns += ended_ns - began_ns
    if freed:
        traffic.freed_bytes += nbytes
        tier.by_kind[kind] = max(0, tier.by_kind[kind] - nbytes)
    else:
        tier.by_kind[kind] += nbytes
        if source:  # bytes without a source were made here, not moved in
            traffic.in_bytes += nbytes
    if verb is Verb.OFFLOAD:
        stage.tiers[source].out_bytes += nbytes
    # As `turns.is_load`: it may have come ahead, in another stage's turn.
    is_load = not freed and verb is not Verb.OFFLOAD and (kind is Kind.WEIGHTS or source != "")
    if is_load:
        tally.load(tier_name, resident_bytes)
    else:
        if tally.loaded:
            tally.settle(stage_name, step)
        if resident_bytes > traffic.peak_bytes:  # noqa: PLR1730
            traffic.peak_bytes = resident_bytes
    if resident_bytes > tier.peak.resident_bytes:
        held = dict(tier.by_kind)
        tier.peak = Peak(
            resident_bytes, stage_name, step, began_ns, ended_ns, held, is_load=is_load
        )


def _workspace(tally: Tally, row: Row) -> None:
    (
        _, _, stage_name, step, tier_name, nbytes, resident_bytes, began_ns, ended_ns, slack,
    ) = row  # fmt: skip
    stage, tier = tally.stages[stage_name], tally.tiers[tier_name]
    traffic = stage.tiers[tier_name]
    tally.lasts(stage, began_ns, ended_ns)
    if ended_ns > began_ns:
        stage.compute_ns += ended_ns - began_ns
    tier.computes = True
    if tally.loaded:
        tally.settle(stage_name, step)
    if began_ns <= tier.peak.ended_ns:
        tier.peak.explain(nbytes, ended_ns)
    if resident_bytes > traffic.peak_bytes:  # noqa: PLR1730
        traffic.peak_bytes = resident_bytes
    if resident_bytes > tier.peak.resident_bytes:
        held = dict(tier.by_kind)
        held[Kind.WORKSPACE] += nbytes
        slack = min(slack, nbytes)
        tier.peak = Peak(resident_bytes, stage_name, step, began_ns, ended_ns, held, slack)


def _transfer(tally: Tally, row: Row) -> None:
    transfer = cast("Transfer", event_of(row))
    tally.last_ns = max(tally.last_ns, transfer.ended_ns)
    arrivals = tally.stages[transfer.stage].arrivals
    arrivals.moving_ns += max(0, transfer.ended_ns - transfer.began_ns)
    arrivals.waited_ns += transfer.waited_ns


def _step(tally: Tally, row: Row) -> None:
    step = cast("Step", event_of(row))
    stage = tally.stages[step.stage]
    tally.lasts(stage, step.began_ns, step.ended_ns)
    stage.steps += 1
    stage.exchanging_ns += step.exchanging_ns
    stage.steps_total = max(stage.steps_total, step.total)


def _span(tally: Tally, row: Row) -> None:
    span = cast("StageSpan", event_of(row))
    stage = tally.stages[span.stage]
    tally.lasts(stage, span.began_ns, span.ended_ns)
    stage.span = span


def _memory(tally: Tally, row: Row) -> None:
    memory = cast("Memory", event_of(row))
    tally.last_ns = max(tally.last_ns, memory.at_ns)
    tally.measured.take(memory)


def _note(tally: Tally, row: Row) -> None:
    note = cast("Note", event_of(row))
    tally.last_ns = max(tally.last_ns, note.at_ns)
    tally.note_count += 1
    tally.notes.append(note)


_COUNTED: dict[str, Callable[[Tally, Row], None]] = {
    "move": _move,
    "transfer": _transfer,
    "workspace": _workspace,
    "step": _step,
    "stage": _span,
    "memory": _memory,
    "note": _note,
}
