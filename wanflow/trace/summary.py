"""What a trace comes to: one frozen record, made while the events stream by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import attrs

from wanflow.trace.by_kind import ByKind
from wanflow.trace.events import Event
from wanflow.trace.measured import Measured
from wanflow.trace.plain import count_in, flat, plain, seconds_in, text_in
from wanflow.trace.reader import State, TraceFile, TraceReader
from wanflow.trace.tally import Peak, StageTally, Tally, TierTally, Traffic

_NS = 1e9


@attrs.frozen
class StageSummary:
    """One stage: `done`, `open` (it did not end) or `not started`. Bytes are the budget tier's.

    `moving_seconds` adds moves up, so with overlap it may exceed `seconds`; `waited_seconds` is
    how long the run was held up by them, `exchanging_seconds` by exchanges with other ranks, both
    what they carry and who comes later. `share` is of the run's seconds. `peak_bytes` is the most
    that was there in its turns (`wanflow.trace.turns`), as a plan has it; `whole_peak_bytes` is the
    peak with what of the budget was set aside.
    """

    stage: str
    op: str
    state: str
    seconds: float
    share: float
    compute_seconds: float
    moving_seconds: float
    waited_seconds: float
    exchanging_seconds: float
    moved_in_bytes: int
    moved_out_bytes: int
    freed_bytes: int
    moves: int
    peak_bytes: int
    whole_peak_bytes: int
    steps: int
    steps_total: int
    knobs: tuple[str, ...]


@attrs.frozen
class VerbTotal:
    """All moves of one verb, on every tier."""

    moves: int
    moved_bytes: int
    moving_seconds: float
    waited_seconds: float


@attrs.frozen
class PeakMoment:
    """The budget tier's fullest moment, by kind."""

    tier: str
    stage: str
    step: int
    at_seconds: float
    resident_bytes: int
    by_kind: ByKind


@attrs.frozen
class NoteLine:
    """Something a reader should know."""

    topic: str
    text: str
    at_seconds: float


@attrs.frozen
class Summary:
    """A trace in short. What the header or the trailer did not say is None.

    To be held against the budget are `whole_peak_bytes`, which is `peak_bytes` and what was set
    aside, and `measured_peak_bytes`; `over_budget_bytes` is by how much the higher is over it.
    """

    path: str
    state: str
    status: str | None
    problem: str
    graph: str | None
    plan_id: str | None
    device: str | None
    simulated: bool | None
    started: str | None
    seed: int | None
    versions: dict[str, Any]
    budget_bytes: int | None
    budget_tier: str | None
    overhead_bytes: int
    over_budget_bytes: int | None
    predicted_peak_bytes: int | None
    peak_bytes: int
    whole_peak_bytes: int
    measured_peak_bytes: int | None
    measured_source: str | None
    measured_beside_bytes: int | None
    measured_with_others: bool
    measured: tuple[Measured, ...]
    alloc_retries: int
    alloc_failures: int
    predicted_seconds: float | None
    seconds: float
    events: int
    skipped: int
    file_bytes: int
    lost_bytes: int
    stages: tuple[StageSummary, ...]
    verbs: dict[str, VerbTotal]
    peak: PeakMoment | None
    notes: tuple[NoteLine, ...]
    note_count: int

    @property
    def exchanging_seconds(self) -> float:
        """How long exchanges with other ranks held it up."""
        return sum(stage.exchanging_seconds for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Give what `trace summary --json` prints: the fields' names are the keys."""
        fields = plain(self)
        return fields if self.peak is None else {**fields, "peak": flat(fields["peak"])}


def summarise(path: Path | str, rank: int = 0) -> Summary:
    """Read a trace once and sum a rank of it up; raises InputError when it is no trace."""
    tally = Tally()
    with TraceReader(path, rank) as reader:
        tally.count(reader.rows())
        return _summary(tally, reader.info())


def summarise_ranks(path: Path | str) -> list[Summary]:
    """Read a trace once and sum every rank up, the first one first; one of a run on one device."""
    with TraceReader(path) as reader:
        tallies = [Tally() for _ in range(reader.ranks)]
        for rank, ranked in groupby(reader.ranked_rows(), itemgetter(0)):
            tallies[rank].count(row for _, row in ranked)
        return [_summary(tally, reader.info(rank)) for rank, tally in enumerate(tallies)]


@attrs.define
class Running:
    """A summary in the making: events are added as they come, and it can be asked for any time."""

    tally: Tally = attrs.field(factory=Tally)

    def add(self, event: Event) -> None:
        """Count one event."""
        self.tally.add(event)

    def so_far(self, file: TraceFile) -> Summary:
        """Sum up what was counted; *file* is what is known of the trace."""
        return _summary(self.tally, file)

    def so_far_of(self, header: Mapping[str, Any]) -> Summary:
        """Sum up what was counted of a run that is not read from a file."""
        return _summary(self.tally, _unwritten(header, self.tally))


def summarise_events(events: Iterable[Event], header: Mapping[str, Any]) -> Summary:
    """Sum up events that are in memory (a simulated run), as if they came from a whole file."""
    tally = Tally()
    for event in events:
        tally.add(event)
    return _summary(tally, _unwritten(header, tally))


def _unwritten(header: Mapping[str, Any], tally: Tally) -> TraceFile:
    return TraceFile("", 0, dict(header), State.WHOLE, None, tally.events, 0, 0, problem="")


def _summary(tally: Tally, file: TraceFile) -> Summary:
    header = file.header
    tier_name = _budget_tier(header, tally.tiers)
    tier = tally.tiers.get(tier_name or "")
    budget_bytes, overhead_bytes = count_in(header, "budget_bytes"), overhead_of(header)
    peak_bytes = tier.peak.resident_bytes if tier else 0
    measured = tally.measured.peak(tier_name, overhead_bytes)
    over_bytes = None
    if budget_bytes is not None:
        top = max(peak_bytes + overhead_bytes, measured.nbytes if measured else 0)
        over_bytes = max(0, top - budget_bytes)
    return Summary(
        path=file.path,
        state=str(file.state),
        status=text_in(file.trailer or {}, "status"),
        problem=file.problem,
        graph=text_in(header, "graph"),
        plan_id=text_in(header, "plan_id"),
        device=text_in(header, "device"),
        simulated=header["simulated"] if isinstance(header.get("simulated"), bool) else None,
        started=text_in(header, "started"),
        seed=header["seed"] if type(header.get("seed")) is int else None,
        versions=header["versions"] if isinstance(header.get("versions"), dict) else {},
        budget_bytes=budget_bytes,
        budget_tier=tier_name,
        overhead_bytes=overhead_bytes,
        over_budget_bytes=over_bytes,
        predicted_peak_bytes=count_in(header, "predicted_peak_bytes"),
        peak_bytes=peak_bytes,
        whole_peak_bytes=peak_bytes + overhead_bytes,
        measured_peak_bytes=measured.nbytes if measured else None,
        measured_source=measured.source if measured else None,
        measured_beside_bytes=measured.beside_bytes if measured else None,
        measured_with_others=measured.with_others if measured else False,
        measured=tally.measured.all,
        alloc_retries=tally.measured.alloc_retries,
        alloc_failures=tally.measured.alloc_failures,
        predicted_seconds=seconds_in(header, "predicted_seconds"),
        seconds=tally.last_ns / _NS,
        events=file.records,
        skipped=file.skipped,
        file_bytes=file.file_bytes,
        lost_bytes=file.lost_bytes,
        stages=_stages(tally, header, tier_name),
        verbs={
            str(verb): VerbTotal(s.moves, s.moved_bytes, s.moving_ns / _NS, s.waited_ns / _NS)
            for verb, s in tally.verbs.items()
        },
        peak=_peak(tier_name, tier.peak) if tier else None,
        notes=tuple(NoteLine(note.topic, note.text, note.at_ns / _NS) for note in tally.notes),
        note_count=tally.note_count,
    )


def _stages(tally: Tally, header: Mapping[str, Any], tier: str | None) -> tuple[StageSummary, ...]:
    """List the stages in the order of the header, then those that only events name."""
    listed = header.get("stages")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    order = dict.fromkeys([*names, *tally.stages])
    empty = StageTally()
    overhead = overhead_of(header)
    return tuple(
        _stage(name, tally.stages.get(name, empty), tally.last_ns, tier, overhead) for name in order
    )


def _stage(
    name: str, tally: StageTally, total_ns: int, tier: str | None, overhead_bytes: int
) -> StageSummary:
    span = tally.span
    began_ns = span.began_ns if span else tally.first_ns or 0
    seconds = max(0, (span.ended_ns if span else tally.last_ns) - began_ns) / _NS
    traffic = tally.tiers.get(tier or "", Traffic())
    peak_bytes = max(span.peak_bytes if span else 0, traffic.peak_bytes)
    return StageSummary(
        stage=name,
        op=span.op if span else "",
        state="done" if span else "not started" if tally.first_ns is None else "open",
        seconds=seconds,
        share=seconds * _NS / total_ns if total_ns else 0.0,
        compute_seconds=tally.compute_ns / _NS,
        moving_seconds=tally.sums.moving_ns / _NS,
        waited_seconds=tally.sums.waited_ns / _NS,
        exchanging_seconds=tally.exchanging_ns / _NS,
        moved_in_bytes=traffic.in_bytes,
        moved_out_bytes=traffic.out_bytes,
        freed_bytes=traffic.freed_bytes,
        moves=tally.sums.moves,
        peak_bytes=peak_bytes,
        whole_peak_bytes=peak_bytes + overhead_bytes,
        steps=tally.steps,
        steps_total=tally.steps_total,
        knobs=span.knobs if span else (),
    )


def _peak(tier: str | None, peak: Peak) -> PeakMoment | None:
    if tier is None or peak.resident_bytes == 0:
        return None
    return PeakMoment(
        tier=tier,
        stage=peak.stage,
        step=peak.step,
        at_seconds=peak.began_ns / _NS,
        resident_bytes=peak.resident_bytes,
        by_kind=ByKind.of(peak.resident_bytes, peak.by_kind, peak.slack_bytes),
    )


def _budget_tier(header: Mapping[str, Any], tiers: Mapping[str, TierTally]) -> str | None:
    """Take the header's word; without one, the fullest of the tiers where something ran."""
    for key in ("budget_tier", "device"):
        name = text_in(header, key)
        if name is not None and (key == "budget_tier" or name in tiers):
            return name
    at_work = [name for name, tier in tiers.items() if tier.computes] or list(tiers)
    return max(at_work, key=lambda name: tiers[name].peak.resident_bytes, default=None)


def overhead_of(header: Mapping[str, Any]) -> int:
    """Say what of the budget no event counts; nothing where the header does not say."""
    return count_in(header, "overhead_bytes") or 0
