"""Where a run is, read off its events: the stage at work, its step, its memory, the time left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from wanflow.trace.events import Event, Move, StageSpan, Step, Workspace
from wanflow.trace.turns import is_load

_FEW = 5  # steps: one that took long is not what all that are left will take


@attrs.frozen
class Cycle:
    """How far a stage is."""

    done: int
    total: int
    seconds: float  # of the last step
    pace: float = 0.0  # seconds a step, of the last few
    ended_ns: int = 0  # the last step


@attrs.define
class StageProgress:
    """Where the run is, read off its events. Stages that stream into each other take turns."""

    budget_bytes: int = 0
    overhead_bytes: int = 0  # of the budget, what no event counts
    planned_bytes: int = 0
    predicted: dict[str, float] = attrs.field(factory=dict)  # seconds, by stage
    turns: dict[str, Cycle] = attrs.field(factory=dict)
    ended: dict[str, float] = attrs.field(factory=dict)  # seconds, by stage
    stage: str = ""
    since_ns: int = 0  # when that stage came to be the one at work
    now_bytes: int = 0
    peak_bytes: int = 0

    def plan(self, report: Mapping[str, Any]) -> None:
        """Take the budget and the predictions."""
        self.budget_bytes = report.get("budget_bytes") or 0
        self.overhead_bytes = report.get("overhead_bytes") or 0
        self.planned_bytes = report.get("predicted_peak_bytes") or 0
        self.predicted = {s["stage"]: s["seconds"] for s in report.get("stages", ())}

    def see(self, event: Event) -> None:
        """Follow one event."""
        match event:
            case Move() | Workspace():
                if event.tier != "host":
                    self._hold(event.resident_bytes)
            case Step():
                self.turns[event.stage] = self._after(event)
                self._hold(event.resident_bytes)
            case StageSpan():
                self.ended[event.stage] = seconds_of(event)
                self.peak_bytes = max(self.peak_bytes, self.of_stage(event))
        if isinstance(event, Move | Workspace | Step):
            self._turn_to(event)

    def _after(self, step: Step) -> Cycle:
        took = seconds_of(step)
        before = self.turns.get(step.stage)
        pace = took if before is None else before.pace + (took - before.pace) / _FEW
        done = step.index + 1  # past the total where chunks come from another stage
        return Cycle(done, max(step.total, done), took, pace, step.ended_ns)

    def _turn_to(self, event: Move | Workspace | Step) -> None:
        """Have the event's stage at work; what is loaded ahead ends no other stage's turn."""
        stage = event.stage
        if stage == self.stage or stage in self.ended:
            return
        ahead = not isinstance(event, Step) and is_load(event)
        if not ahead or not self.stage or self.stage in self.ended:
            self.stage, self.since_ns = stage, event.began_ns

    def of_stage(self, event: StageSpan) -> int:
        """Say a stage's peak with what is set aside, as the plan has it."""
        return event.peak_bytes + self.overhead_bytes

    def turn(self) -> Cycle:
        """Say how far the stage at work is; nothing of nothing before its first step ended."""
        return self.turns.get(self.stage, Cycle(0, 0, 0.0))

    def left_seconds(self, now_ns: int = 0) -> float:
        """Estimate what is left: measured steps, and scaled predictions for the rest.

        With *now_ns* what of the step at work is over already is none of it.
        """
        begun = {name: turn for name, turn in self.turns.items() if name not in self.ended}
        later = [s for name, s in self.predicted.items() if name not in {*begun, *self.ended}]
        steps = sum((turn.total - turn.done) * turn.pace for turn in begun.values())
        return max(0.0, steps + sum(later) * self._pace() - self._spent(now_ns))

    def _spent(self, now_ns: int) -> float:
        """Say how long the step at work lasts so far, and no longer than it is reckoned with."""
        turn = self.turns.get(self.stage)
        if turn is None:
            since, reckoned = self.since_ns, self.predicted.get(self.stage, 0.0) * self._pace()
        else:
            since, reckoned = turn.ended_ns, turn.pace if turn.done < turn.total else 0.0
        return min(max(0, now_ns - since) / 1e9, reckoned)

    def _pace(self) -> float:
        """Say how much slower than predicted it went so far."""
        took = sum(self.ended.get(name, 0.0) for name in self.predicted)
        planned = sum(self.predicted[name] for name in self.ended if name in self.predicted)
        return took / planned if took and planned else 1.0

    def _hold(self, now: int) -> None:
        self.now_bytes = now + self.overhead_bytes
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)


def seconds_of(event: Step | StageSpan) -> float:
    """Say how long it took."""
    return (event.ended_ns - event.began_ns) / 1e9
