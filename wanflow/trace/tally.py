"""Add events up as they stream by: per stage, per tier, per verb. Nothing is kept per event."""

from __future__ import annotations

from collections import deque

import attrs

from wanflow.trace.events import (
    Event,
    Kind,
    Memory,
    Move,
    Note,
    StageSpan,
    Step,
    Transfer,
    Verb,
    Workspace,
)

NOTES_KEPT = 20


@attrs.define
class Sum:
    """Moves of one verb: how many, their bytes, how long they took and were waited for."""

    moves: int = 0
    moved_bytes: int = 0
    moving_ns: int = 0
    waited_ns: int = 0

    def add(self, move: Move) -> None:
        """Count *move*."""
        self.moves += 1
        self.moved_bytes += move.nbytes
        self.arrive(move)

    def arrive(self, event: Move | Transfer) -> None:
        """Count the time of *event*, and what was lost waiting for it."""
        self.moving_ns += _span(event.began_ns, event.ended_ns)
        self.waited_ns += event.waited_ns


@attrs.define
class Traffic:
    """What one stage did to one tier."""

    in_bytes: int = 0
    out_bytes: int = 0
    freed_bytes: int = 0
    peak_bytes: int = 0


@attrs.define
class Peak:
    """The fullest moment of a tier: when, in which stage, and what was there by kind."""

    resident_bytes: int = 0
    stage: str = ""
    step: int = 0
    began_ns: int = 0
    ended_ns: int = 0
    by_kind: dict[Kind, int] = attrs.field(factory=dict)
    slack_bytes: int = 0  # of the workspace

    @property
    def missing_bytes(self) -> int:
        """Bytes that no object seen so far explains (negative: more objects than bytes)."""
        return self.resident_bytes - sum(self.by_kind.values())


@attrs.define
class TierTally:
    """The bytes on one tier now, by kind, and its peak."""

    by_kind: dict[Kind, int] = attrs.field(factory=lambda: dict.fromkeys(Kind, 0))
    peak: Peak = attrs.field(factory=Peak)
    computes: bool = False

    def move(self, move: Move) -> None:
        """Follow bytes that come or leave.

        Counted by kind and not by name: the old and the new latents are here at once, as one name.
        """
        nbytes = -move.nbytes if move.verb is Verb.FREE else move.nbytes
        self.by_kind[move.kind] = max(0, self.by_kind[move.kind] + nbytes)

    def see(self, event: Move | Workspace, extra_bytes: int, slack_bytes: int = 0) -> None:
        """Compare *event* with the peak; *extra_bytes* of workspace are there while it runs."""
        if event.resident_bytes > self.peak.resident_bytes:
            by_kind = dict(self.by_kind)
            by_kind[Kind.WORKSPACE] += extra_bytes
            self.peak = Peak(
                event.resident_bytes,
                event.stage,
                event.step,
                event.began_ns,
                event.ended_ns,
                by_kind,
                min(slack_bytes, extra_bytes),
            )

    def explain_peak(self, work: Workspace) -> None:
        """Credit a workspace that was in use at the peak, but whose record comes when it ends."""
        peak = self.peak
        at_once = work.began_ns <= peak.ended_ns and work.ended_ns >= peak.began_ns
        if at_once and peak.missing_bytes > 0:
            peak.by_kind[Kind.WORKSPACE] += min(work.nbytes, peak.missing_bytes)


@attrs.define
class StageTally:
    """What one stage did."""

    first_ns: int | None = None
    last_ns: int = 0
    span: StageSpan | None = None
    compute_ns: int = 0
    steps: int = 0
    steps_total: int = 0
    sums: Sum = attrs.field(factory=Sum)
    tiers: dict[str, Traffic] = attrs.field(factory=dict)

    def lasts(self, began_ns: int, ended_ns: int) -> None:
        """Stretch the stage's time over an event's."""
        self.first_ns = began_ns if self.first_ns is None else min(self.first_ns, began_ns)
        self.last_ns = max(self.last_ns, ended_ns)

    def on(self, tier: str) -> Traffic:
        """Give the stage's traffic on *tier*."""
        traffic = self.tiers.get(tier)
        if traffic is None:
            traffic = self.tiers[tier] = Traffic()
        return traffic


@attrs.define
class Tally:
    """The running totals of one trace."""

    events: int = 0
    last_ns: int = 0
    stages: dict[str, StageTally] = attrs.field(factory=dict)
    tiers: dict[str, TierTally] = attrs.field(factory=dict)
    verbs: dict[Verb, Sum] = attrs.field(factory=lambda: {verb: Sum() for verb in Verb})
    measured: dict[tuple[str, str], int] = attrs.field(factory=dict)
    notes: deque[Note] = attrs.field(factory=lambda: deque(maxlen=NOTES_KEPT))
    note_count: int = 0

    def add(self, event: Event) -> None:
        """Count *event*."""
        self.events += 1
        match event:
            case Move():
                self._move(event)
            case Transfer():
                self._transfer(event)
            case Workspace():
                self._workspace(event)
            case Step():
                self._step(event)
            case StageSpan():
                self._stage(event.stage, event.began_ns, event.ended_ns).span = event
            case Memory():
                self._memory(event)
            case Note():
                self._note(event)

    def _stage(self, name: str, began_ns: int, ended_ns: int) -> StageTally:
        self.last_ns = max(self.last_ns, ended_ns)
        stage = self._named(name)
        stage.lasts(began_ns, ended_ns)
        return stage

    def _named(self, name: str) -> StageTally:
        stage = self.stages.get(name)
        if stage is None:
            stage = self.stages[name] = StageTally()
        return stage

    def _tier(self, name: str) -> TierTally:
        tier = self.tiers.get(name)
        if tier is None:
            tier = self.tiers[name] = TierTally()
        return tier

    def _move(self, move: Move) -> None:
        tier = self._tier(move.tier)
        # Weights may come ahead, while another stage still runs: that is not the stage's own time.
        ahead = move.kind is Kind.WEIGHTS and move.verb is not Verb.FREE
        stage = (
            self._named(move.stage)
            if ahead
            else self._stage(move.stage, move.began_ns, move.ended_ns)
        )
        stage.sums.add(move)
        self.verbs[move.verb].add(move)
        traffic = stage.on(move.tier)
        tier.move(move)
        if move.verb is Verb.FREE:
            traffic.freed_bytes += move.nbytes
        elif move.source:  # bytes without a source were made here, not moved in
            traffic.in_bytes += move.nbytes
        if move.verb is Verb.OFFLOAD:
            stage.on(move.source).out_bytes += move.nbytes
        tier.see(move, 0)
        traffic.peak_bytes = max(traffic.peak_bytes, move.resident_bytes)

    def _transfer(self, transfer: Transfer) -> None:
        self.last_ns = max(self.last_ns, transfer.ended_ns)
        self._named(transfer.stage).sums.arrive(transfer)

    def _workspace(self, work: Workspace) -> None:
        stage, tier = self._stage(work.stage, work.began_ns, work.ended_ns), self._tier(work.tier)
        stage.compute_ns += _span(work.began_ns, work.ended_ns)
        tier.computes = True
        tier.explain_peak(work)
        tier.see(work, work.nbytes, work.slack_bytes)
        traffic = stage.on(work.tier)
        traffic.peak_bytes = max(traffic.peak_bytes, work.resident_bytes)

    def _step(self, step: Step) -> None:
        stage = self._stage(step.stage, step.began_ns, step.ended_ns)
        stage.steps += 1
        stage.steps_total = max(stage.steps_total, step.total)

    def _memory(self, memory: Memory) -> None:
        self.last_ns = max(self.last_ns, memory.at_ns)
        key = (memory.source, memory.tier)
        self.measured[key] = max(self.measured.get(key, 0), memory.peak_bytes, memory.now_bytes)

    def _note(self, note: Note) -> None:
        self.last_ns = max(self.last_ns, note.at_ns)
        self.note_count += 1
        self.notes.append(note)


def _span(began_ns: int, ended_ns: int) -> int:
    return max(0, ended_ns - began_ns)
