"""Run a plan: drive the programs for real, exactly as planned, every byte through the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import attrs
import torch

from wanflow.errors import InputError
from wanflow.scheduler.footprint.costs import CallRecord, Made
from wanflow.scheduler.last_look import watched_by
from wanflow.scheduler.plan.schedule import Plan
from wanflow.scheduler.program import Placed, Program, interleave
from wanflow.scheduler.run.call_meter import CallMeter, Peaks, RunMeter, run_meter
from wanflow.scheduler.run.card_context import CardContext
from wanflow.scheduler.run.device_times import DeviceTimes
from wanflow.scheduler.run.device_works import DeviceWorks, Watch
from wanflow.scheduler.run.error_words import making_room, reported
from wanflow.scheduler.run.finite_check import FiniteCheck, Tell
from wanflow.scheduler.run.ledger import Cause, Ledger
from wanflow.scheduler.run.player import Player, item_of
from wanflow.scheduler.run.resume_point import resumable, resume_point
from wanflow.scheduler.run.step_events import StepEvents
from wanflow.scheduler.run.streamer import Streamer
from wanflow.trace.events import Verb
from wanflow.trace.writer import TraceSink

Values = Mapping[str, tuple[int, torch.Tensor]]
Save = Callable[[str, int, Values], None]


@attrs.frozen
class Outcome:
    """What a run leaves: the values that were kept, and the peak as somebody else measured it.

    `watched_calls` are those whose every allocation was watched, and all calls; None on a card. A
    run that `stopped` where it was asked to keeps no values.
    """

    values: Mapping[str, torch.Tensor]
    peak_bytes: int
    peak_source: str
    ledger_peak_bytes: int
    watched_calls: tuple[int, int] | None = None
    stopped: bool = False


class _StopReached(Exception):
    """The step is done that a run was to stop after."""


@attrs.frozen
class Resumption:
    """Go on after step *step* of *stage*, with the values that were alive then."""

    stage: str
    step: int
    values: Mapping[str, torch.Tensor]


@attrs.define
class Executor:
    """Runs one plan once. *watch* sees every value as it is made (stage, name, tensor).

    *stop* is asked between calls; it raises to end the run (Ctrl-C). *save* is given the values
    alive after each step that a run can be resumed from, by name: number and tensor. The run ends
    after the step *until*, a stage and a number from 0. *nonfinite* is told of the first step whose
    values are not finite; without it that step ends the run. *context* is what the tries of a run
    on a card know of what lies beside its tensors, *peaks* what runs of the same calls on a CPU
    know of each kind of them. *exchanging* says for how many ns other ranks were waited for.
    """

    plan: Plan
    programs: tuple[Program, ...]
    streamer: Streamer
    ledger: Ledger
    sink: TraceSink
    device: torch.device
    tier: str
    watch: Watch | None = None
    stop: Callable[[], None] | None = None
    save: Save | None = None
    until: tuple[str, int] | None = None
    resume: Resumption | None = None
    nonfinite: Tell | None = None
    context: CardContext | None = None
    peaks: Peaks | None = None
    exchanging: Callable[[], int] | None = None
    _check: FiniteCheck = attrs.field(init=False)
    _meter: RunMeter = attrs.field(init=False)
    _works: DeviceWorks = attrs.field(init=False)
    _player: Player = attrs.field(init=False)
    _shapes: dict[str, tuple[int, ...]] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._meter = run_meter(self.device, self.context, self.peaks, every=self.ledger.checks)
        self.streamer.notice = self._meter.holds
        self._check = FiniteCheck(self.plan.footprint, self.nonfinite)
        self._works = DeviceWorks(self.streamer, self.watch, self._check, self._meter)
        self._player = Player(self.plan, self.tier, self.ledger, self.sink, self._works)

    def run(self) -> Outcome:
        """Run to the end; on any failure everything is let go of and the programs are closed."""
        meter, works, stopped = self._meter, self._works, False
        with ExitStack() as stack:
            if isinstance(self.sink, DeviceTimes):
                stack.callback(self.sink.close)
            stack.enter_context(torch.no_grad())
            stack.enter_context(watched_by(self._check.lost))
            stack.callback(works.let_go)
            stack.enter_context(meter)
            try:
                self._drive()
            except _StopReached:
                stopped = True
                self._end_early("the run was to stop here")
            except BaseException:
                self._end_early("the run failed")
                raise
            numbers = {} if stopped else works.numbers
            values = {name: works.values[n] for name, n in numbers.items()}
            peaks = (meter.peak_bytes, meter.source)
        watched = (meter.watched, meter.calls) if isinstance(meter, CallMeter) else None
        return Outcome(values, *peaks, self.ledger.peak_bytes(self.tier), watched, stopped)

    def _end_early(self, why: str) -> None:
        """Let go of everything, in the accounts too."""
        self._meter.fail()
        self.streamer.rests = False  # what it holds is let go of too
        self._works.let_go()
        for tier in self.ledger.tiers:
            self.ledger.free_all(tier, attrs.evolve(self._player.cause, why=why))

    def _drive(self) -> None:
        step_events = StepEvents(
            self.plan, self.sink, self.ledger, self._meter, self.tier, self.exchanging
        )
        records = self.plan.footprint.calls
        ends = set({(c.stage, c.step): n for n, c in enumerate(records)}.values())
        begin = self._open()
        boundaries = resumable(self.plan, self._streamed()) if self.save else frozenset()
        calls = interleave(self.programs, self.plan.knobs, self._shape)
        index = -1

        before, run_before, turn = step_events.before, self._works.begin, self._player.turn

        def run_call(index: int, placed: Placed) -> None:
            before(placed.program.stage)
            run_before(placed, records[index])
            turn(index)
            is_end = index in ends
            if is_end:
                if isinstance(self.sink, DeviceTimes):
                    self.sink.settle()  # the step ends when its kernels have ended
                self._check.settle()
            step_events.after(index)
            if is_end:
                self._end_step(records[index], step_events, saves=index in boundaries)

        try:
            for index, placed in enumerate(calls):
                if index == len(records):
                    msg = f"{placed.program.stage}/{placed.call.kind} comes after the plan's end"
                    raise AssertionError(msg)
                self._meet(records[index])
                if index < begin:
                    continue
                if self.stop is not None:
                    self.stop()
                reported(placed, run_call, index, placed)
        finally:
            calls.close()  # type: ignore[attr-defined]
        if index + 1 != len(records):
            msg = f"the programs made {index + 1} calls, the plan has {len(records)}"
            raise AssertionError(msg)
        ended = self.streamer.rest if self.plan.carries else self.streamer.close
        reported(f"stage {records[-1].stage!r}", ended)
        self._player.close()
        step_events.finish()

    def _end_step(self, call: CallRecord, step_events: StepEvents, *, saves: bool) -> None:
        """Save what the step of a call leaves, and end the run if it was to end there."""
        if saves:
            self._save(call)
        if (call.stage, call.step) == self.until:
            step_events.finish()  # what was measured so far
            raise _StopReached

    def _streamed(self) -> set[str]:
        """The stages at either end of a stream."""
        ends = [(p.stage, p.consumes) for p in self.programs if p.consumes is not None]
        return {stage for both in ends for stage in both}

    def _open(self) -> int:
        """Reserve what is there all along; restore a resumed run. Returns the first call to run."""
        self._player.open()
        host, staging_bytes = self.plan.host, self.plan.footprint.staging_bytes
        resume, self.resume = self.resume, None  # its tensors are the ledger's from here on
        finds = self.plan.finds if resume is None else {}
        buffers = (host, staging_bytes, finds, self.plan.arenas)
        making_room("what reads pass through", self.streamer.open, *buffers)
        if resume is None:
            return 0
        where = f"going on after step {resume.step} of stage {resume.stage!r}"
        return reported(where, self._restore, resume)

    def _restore(self, resume: Resumption) -> int:
        """Put the values and weights back that the plan has at the call after the saved step."""
        point = resume_point(self.plan, resume.stage, resume.step)
        player, works = self._player, self._works
        cause = player.cause = Cause(resume.stage, resume.step, "resumed")
        self._check.call = self.plan.footprint.calls[point.call - 1]
        for name, value in point.values.items():
            works.put(value.value, None, name)
            if value.value in player.made:  # one value under two names
                continue
            saved = _as_planned(resume, name, value)
            self._check.look(saved, name)
            player.made[value.value] = value
            if value.value in point.away:
                with self.ledger.bring(Verb.PLACE, item_of(value), "host", "disk", cause):
                    self.streamer.values.put(value.value, saved)
                continue
            with self.ledger.bring(Verb.PLACE, item_of(value), self.tier, "disk", cause):
                works.put(value.value, saved.to(self.device), name)
                self._meter.holds(works.values[value.value])
        self._check.settle()
        for arena in point.arenas:
            player.open_arena(arena)
        for move in point.loads:
            player.load(move)
        return point.call

    def _save(self, call: CallRecord) -> None:
        if self.save is not None:
            works = self._works
            values = {name: (n, works.saved(n)) for name, n in works.numbers.items()}
            self.save(call.stage, call.step, values)

    def _meet(self, call: CallRecord) -> None:
        for value in call.makes:
            self._shapes[value.name] = value.shape

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]


def _as_planned(resume: Resumption, name: str, value: Made) -> torch.Tensor:
    """A saved value, if it is what the plan has at that point."""
    saved = resume.values.get(name)
    if saved is None or saved.nbytes != value.nbytes or tuple(saved.shape) != value.shape:
        what = "is missing" if saved is None else f"is {list(saved.shape)}"
        raise InputError(
            f"the state after step {resume.step} of {resume.stage!r} can't be used: {name} {what}, "
            f"the plan has {list(value.shape)}",
            code="bad-state",
        )
    return saved
