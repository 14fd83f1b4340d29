"""All that a report says of a run, read off its events: one pass for sums, two for the peak."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import attrs

from wanflow.trace.events import Event, Step, Transfer
from wanflow.trace.exports.chart import COLUMNS
from wanflow.trace.exports.curve import Curves, draw_curves
from wanflow.trace.levels import MOST_OBJECTS, Residency, Source
from wanflow.trace.moment import Moment, peak_moment
from wanflow.trace.reader import read
from wanflow.trace.stage_peaks import Loads, ModelLoad, StageLoad
from wanflow.trace.summary import Summary, summarise, summarise_events
from wanflow.trace.turns import TurnLevels
from wanflow.trace.unreplaced import unreplaced

_NS = 1e9
_MOST_STEPS = 10_000
_MOST_WAITED = 5


@attrs.frozen
class StepFact:
    """One turn of a repeating stage: a denoising step, a frame of the decoder.

    `delta_bytes` is how much more lies on the tier at its end than at the end of the stage's
    previous one, or before the stage's first turn.
    """

    stage: str
    index: int
    total: int
    seconds: float
    resident_bytes: int
    delta_bytes: int
    peak_bytes: int


@attrs.frozen
class WaitFact:
    """How long compute stood still for one segment, over all its loads."""

    name: str
    loads: int
    waited_seconds: float


@attrs.frozen
class Facts:
    """A run in numbers. `steps_left_out` were past what is kept."""

    summary: Summary
    models: tuple[ModelLoad, ...]
    stages: tuple[StageLoad, ...]
    peak: Moment | None
    steps: tuple[StepFact, ...]
    steps_left_out: int
    waits: tuple[WaitFact, ...]
    waited_seconds: float
    curves: Curves

    def to_dict(self) -> dict[str, Any]:
        """Give what `trace report --json` prints, the advice aside."""
        return {
            "summary": self.summary.to_dict(),
            "models": [attrs.asdict(model) for model in self.models],
            "stages": [stage.to_dict() for stage in self.stages],
            "peak": None if self.peak is None else self.peak.to_dict(),
            "steps": [attrs.asdict(step) for step in self.steps],
            "waits": [attrs.asdict(wait) for wait in self.waits],
            "waited_seconds": self.waited_seconds,
        }


@attrs.define
class _Steps:
    """The level of the tier, turn by turn; stages that stream into each other take turns."""

    tier: str
    steps: list[StepFact] = attrs.field(factory=list)
    left_out: int = 0
    _residency: Residency = attrs.field(factory=Residency, init=False)
    _turns: TurnLevels = attrs.field(init=False)
    _peaks: dict[str, int] = attrs.field(factory=dict, init=False)
    _ends: dict[str, int] = attrs.field(factory=dict, init=False)
    _now_bytes: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._turns = TurnLevels(self.tier)

    def add(self, event: Event) -> None:
        for level in self._turns.see(event, self._residency.see(event)):
            if len(self._ends) < MOST_OBJECTS:
                self._ends.setdefault(level.stage, self._now_bytes)
                most = self._peaks.get(level.stage, 0)
                self._peaks[level.stage] = max(most, level.resident_bytes)
                self._now_bytes = level.resident_bytes
        if isinstance(event, Step):
            self._step(event)

    def _step(self, step: Step) -> None:
        before = self._ends.get(step.stage, step.resident_bytes)
        self._ends[step.stage] = step.resident_bytes
        peak = max(self._peaks.pop(step.stage, 0), step.resident_bytes)
        if len(self.steps) >= _MOST_STEPS:
            self.left_out += 1
            return
        seconds = max(0, step.ended_ns - step.began_ns) / _NS
        self.steps.append(
            StepFact(
                step.stage, step.index, step.total, seconds, step.resident_bytes,
                step.resident_bytes - before, peak,
            )
        )  # fmt: skip


@attrs.define
class _Waits:
    """Waiting by what was waited for."""

    waited_ns: Counter[str] = attrs.field(factory=Counter)
    loads: Counter[str] = attrs.field(factory=Counter)

    def add(self, event: Event) -> None:
        if isinstance(event, Transfer) and len(self.loads) < MOST_OBJECTS:
            self.loads[event.name] += 1
            self.waited_ns[event.name] += event.waited_ns


def facts(path: Path | str, rank: int = 0) -> Facts:
    """Read a *rank* of a trace; InputError for none, TraceError for one replaced meanwhile."""
    with unreplaced(path):
        return _facts(summarise(path, rank), lambda: read(path, rank))


def facts_of(events: Source, header: dict[str, Any]) -> Facts:
    """Take the events from memory: a simulated run, or another program's log."""
    return _facts(summarise_events(events(), header), events)


def _facts(summary: Summary, events: Source) -> Facts:
    tier = summary.budget_tier or ""
    loads, steps, waits = Loads(tier), _Steps(tier), _Waits()
    for event in events():
        loads.add(event)
        steps.add(event)
        waits.add(event)
    worst = [
        WaitFact(name, waits.loads[name], waited / _NS)
        for name, waited in waits.waited_ns.most_common(_MOST_WAITED)
        if waited
    ]
    return Facts(
        summary,
        loads.models(),
        tuple(StageLoad(s, loads.peaks.get(s.stage)) for s in summary.stages if s.stage),
        peak_moment(events, tier),
        tuple(steps.steps),
        steps.left_out,
        tuple(worst),
        sum(stage.waited_seconds for stage in summary.stages),
        draw_curves(events(), round(summary.seconds * _NS), COLUMNS),
    )
