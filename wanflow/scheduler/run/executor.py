"""Run a plan: drive the programs for real, exactly as planned, every byte through the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import attrs
import torch

from wanflow.errors import InputError
from wanflow.scheduler.footprint.costs import CallRecord, Made
from wanflow.scheduler.plan.arenas import Arena
from wanflow.scheduler.plan.host_memory import RING
from wanflow.scheduler.plan.schedule import Plan, TierMove, Turn, arena_key, room_of
from wanflow.scheduler.program import GATHERED, Placed, Program, Tensors, interleave, split_outputs
from wanflow.scheduler.run.error_words import guarded, making_room
from wanflow.scheduler.run.ledger import Cause, Item, Ledger
from wanflow.scheduler.run.meter import RunMeter, meter_for
from wanflow.scheduler.run.resume_point import resumable, resume_point
from wanflow.scheduler.run.step_events import Spans
from wanflow.scheduler.run.streamer import Arrival, Streamer
from wanflow.trace.events import Kind, Transfer, Verb
from wanflow.trace.writer import TraceSink

Watch = Callable[[str, str, torch.Tensor], None]
Values = Mapping[str, tuple[int, torch.Tensor]]
Save = Callable[[str, int, Values], None]


@attrs.frozen
class Outcome:
    """What a run leaves: the values that were kept, and the peak as somebody else measured it."""

    values: Mapping[str, torch.Tensor]
    peak_bytes: int
    peak_source: str
    ledger_peak_bytes: int


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
    alive after each step that a run can be resumed from, by name: number and tensor.
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
    resume: Resumption | None = None
    _meter: RunMeter = attrs.field(init=False)
    _values: dict[int, torch.Tensor] = attrs.field(factory=dict, init=False)
    _numbers: dict[str, int] = attrs.field(factory=dict, init=False)
    _made: dict[int, Made] = attrs.field(factory=dict, init=False)
    _coming: set[int] = attrs.field(factory=set, init=False)
    _shapes: dict[str, tuple[int, ...]] = attrs.field(factory=dict, init=False)
    _cause: Cause = attrs.field(default=Cause("", 0, ""), init=False)

    @_meter.default
    def _meter_of_device(self) -> RunMeter:
        return meter_for(self.device)

    def run(self) -> Outcome:
        """Run to the end; on any failure everything is let go of and the programs are closed."""
        meter = self._meter
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.callback(self._let_go)
            stack.enter_context(meter)
            try:
                self._drive()
            except BaseException:
                self._let_go()
                for tier in self.ledger.tiers:
                    self.ledger.free_all(tier, attrs.evolve(self._cause, why="the run failed"))
                raise
            kept = {name: self._values[n] for name, n in self._numbers.items()}
            peaks = (meter.peak_bytes, meter.source)
        return Outcome(kept, *peaks, self.ledger.peak_bytes(self.tier))

    def _drive(self) -> None:
        spans = Spans(self.plan, self.sink, self.ledger, self._meter, self.tier)
        steps, turns = self.plan.footprint.calls, self.plan.turns
        begin = self._open()
        boundaries = resumable(self.plan) if self.save is not None else frozenset()
        calls = interleave(self.programs, self.plan.knobs, self._shape)
        index = -1
        try:
            for index, placed in enumerate(calls):
                if index == len(steps):
                    msg = f"{placed.program.stage}/{placed.call.kind} comes after the plan's end"
                    raise AssertionError(msg)
                self._shapes.update({made.name: made.shape for made in steps[index].makes})
                if index < begin:
                    continue
                if self.stop is not None:
                    self.stop()
                spans.before(placed.program.stage)
                self._turn(placed, steps[index], turns[index])
                self._meter.collect()
                spans.after(index)
                if index in boundaries:
                    self._save(steps[index])
        finally:
            calls.close()  # type: ignore[attr-defined]
        if index + 1 != len(steps):
            msg = f"the programs made {index + 1} calls, the plan has {len(steps)}"
            raise AssertionError(msg)
        self._close()
        spans.finish()

    def _open(self) -> int:
        """Reserve what is there all along; restore a resumed run. Returns the first call to run."""
        for item, tier in self._fixtures():
            with self.ledger.bring(Verb.PLACE, item, tier, "", Cause("", 0, "for all reads")):
                pass
        self.streamer.open(self.plan.host, self.plan.footprint.staging_bytes)
        resume, self.resume = self.resume, None  # its tensors are the ledger's from here on
        return 0 if resume is None else self._restore(resume)

    def _close(self) -> None:
        self.streamer.close()
        for item, tier in self._fixtures():
            self.ledger.free(item.key, tier, Cause("", 0, "the run is over"))
        for key in self.plan.host.cached:
            if self.ledger.holds("host", key):
                self.ledger.free(key, "host", Cause("", 0, "the run is over"))

    def _fixtures(self) -> list[tuple[Item, str]]:
        """Buffers that are there from the first call to the last, and the tier that holds them."""
        found = []
        host = "host" if self.streamer.has_host_tier else self.tier
        staging, ring = self.plan.footprint.staging_bytes, RING * self.plan.host.ring_bytes
        if staging:
            found.append((Item("staging", "read staging", Kind.WORKSPACE, staging), host))
        if ring and self.streamer.has_host_tier:
            found.append((Item("ring", "upload ring", Kind.WORKSPACE, ring), host))
        return found

    def _restore(self, resume: Resumption) -> int:
        """Put the values and weights back that the plan has at the call after the saved step."""
        point = resume_point(self.plan, resume.stage, resume.step)
        cause = Cause(resume.stage, resume.step, "resumed")
        for name, made in point.values.items():
            self._numbers[name] = made.value
            if made.value in self._made:  # one value under two names
                continue
            saved = _as_planned(resume, name, made)
            self._made[made.value] = made
            if made.value in point.away:
                with self.ledger.bring(Verb.PLACE, _item(made), "host", "disk", cause):
                    self.streamer.values.put(made.value, saved)
                continue
            with self.ledger.bring(Verb.PLACE, _item(made), self.tier, "disk", cause):
                self._values[made.value] = saved.to(self.device)
        for arena in point.arenas:
            self._open_arena(arena, cause)
        for move in point.weights:
            self._start(move)
        return point.call

    def _save(self, step: CallRecord) -> None:
        if self.save is not None:
            values = {name: (n, self._value(n)) for name, n in self._numbers.items()}
            self.save(step.stage, step.step, values)

    def _value(self, number: int) -> torch.Tensor:
        """A value wherever it is: one that is away, or on its way back, as the host has it."""
        away = self.streamer.values.kept(number)
        return self._values[number] if away is None else away

    def _turn(self, placed: Placed, step: CallRecord, turn: Turn) -> None:
        self._agree(placed, step)
        cause = self._cause = Cause(step.stage, step.step, step.kind)
        for arena in turn.opens:
            self._open_arena(arena, cause)
        for move in turn.brings:
            self._start(move)
        if step.segment is not None:
            self._await(step.segment, cause)
        for number in step.reads:
            if number in self._coming:
                self._await_value(number, cause)
        self._call(placed, step, cause)
        for move in turn.drops:
            self.streamer.drop(move.segment)
            why = attrs.evolve(cause, why=move.cause)
            self.ledger.free(move.segment, self.tier, why, room_of(move))
        for number in turn.frees:
            self._free(number, cause)
        for move in turn.spills:
            self._spill(move, cause)
        for arena in turn.closes:
            self.streamer.close_arena(arena.model)
            why = attrs.evolve(cause, why="the model's last use")
            self.ledger.free(arena_key(arena.model), self.tier, why)

    def _open_arena(self, arena: Arena, cause: Cause) -> None:
        name = f"room for {arena.model}"
        item = Item(arena_key(arena.model), name, Kind.WORKSPACE, arena.nbytes)
        why = attrs.evolve(cause, why="one block for the model's weights")

        def make() -> None:
            with self.ledger.bring(Verb.PLACE, item, self.tier, "", why):
                self.streamer.open_arena(arena.model, arena.nbytes)

        making_room(arena.model, make)

    def _start(self, move: TierMove) -> None:
        """Make room for a segment or for values that come back, and start their load."""
        start = self._start_values if move.values else self._start_segment
        making_room(move.segment, lambda: start(move))

    def _start_values(self, move: TierMove) -> None:
        cause = Cause(move.stage, move.step, move.cause)
        for number in move.values:
            item = _item(self._made[number])
            with self.ledger.bring(move.verb, item, self.tier, "host", cause):
                self.streamer.start_value(number)
            self._coming.add(number)

    def _await_value(self, number: int, cause: Cause) -> None:
        self._values[number], arrival = self.streamer.value(number)
        self._coming.discard(number)
        made = self._made[number]
        self._arrived(made.name, made.nbytes, arrival, cause)
        self.ledger.free(_item(made).key, "host", attrs.evolve(cause, why="back on the device"))

    def _spill(self, move: TierMove, cause: Cause) -> None:
        """Copy a value to the host and let its memory on the device go."""
        (number,) = move.values
        item = _item(self._made[number])
        why = attrs.evolve(cause, why=move.cause)
        with self.ledger.bring(move.verb, item, "host", self.tier, why):
            self.streamer.values.spill(number, self._values[number])
        del self._values[number]
        self.ledger.free(item.key, self.tier, why)

    def _start_segment(self, move: TierMove) -> None:
        cause = Cause(move.stage, move.step, move.cause)
        item = Item(move.segment, move.segment, Kind.WEIGHTS, move.nbytes)
        if move.segment in self.plan.host.cached and not self.ledger.holds("host", move.segment):
            with self.ledger.bring(Verb.PLACE, item, "host", "disk", cause):
                pass
        source = self.streamer.source(move.segment)
        with self.ledger.bring(move.verb, item, self.tier, source, cause, room_of(move)):
            self.streamer.start(move.segment, move.offset_bytes)

    def _await(self, segment: str, cause: Cause) -> None:
        arrival = self.streamer.ready(segment)
        if arrival is None:
            return
        self._arrived(segment, self.plan.footprint.segments[segment].nbytes, arrival, cause)

    def _arrived(self, name: str, nbytes: int, arrival: Arrival, cause: Cause) -> None:
        began, ended = (self.ledger.since_ns(t) for t in (arrival.began_ns, arrival.ended_ns))
        self.sink.emit(
            Transfer(
                name, cause.stage, cause.step, arrival.queue, self.tier, nbytes, began, ended,
                arrival.waited_ns,
            )
        )  # fmt: skip

    def _agree(self, placed: Placed, step: CallRecord) -> None:
        call, model = placed.call, placed.program.model
        segment = None
        if call.segment is not None and model is not None:
            segment = f"{model.name}/{call.segment}"
        reads = tuple(self._numbers[n] for n in call.reads if n in self._numbers)
        found = (placed.program.stage, call.kind, call.step, segment, reads)
        planned = (step.stage, step.kind, step.step, step.segment, step.reads)
        if found != planned:
            msg = f"the plan has the call {planned}, the program {found}"
            raise AssertionError(msg)

    def _call(self, placed: Placed, step: CallRecord, cause: Cause) -> None:
        call = placed.call
        inputs = {n: self._values[self._numbers[n]] for n in call.reads if n in self._numbers}
        with ExitStack() as stack:
            if call.gather is not None:
                inputs[GATHERED] = self._gather(placed, step, cause, stack)
            room, slack = step.cost.room_bytes, step.cost.slack_bytes
            stack.enter_context(self.ledger.workspace(step.kind, room, self.tier, cause, slack))
            outputs = split_outputs(guarded(placed, inputs), inputs)
        renames = {new: self._numbers[old] for new, old in outputs.renames.items()}
        self._keep(step, outputs.makes, cause)
        self._numbers.update(renames)

    def _gather(
        self, placed: Placed, step: CallRecord, cause: Cause, stack: ExitStack
    ) -> torch.Tensor:
        gather, model = placed.call.gather, placed.program.model
        if gather is None or model is None:
            msg = f"{step.stage}/{step.kind} gathers from no model"
            raise AssertionError(msg)
        key = f"{model.name}/{gather.tensor}"
        item = Item(key, f"{key} rows", Kind.WEIGHTS, step.gathered_bytes)
        why = attrs.evolve(cause, why="rows of the prompt's tokens")
        ids = self._values[self._numbers[gather.ids]]
        with self.ledger.bring(Verb.STREAM, item, self.tier, "disk", why):
            began = self.ledger.now_ns()
            rows = self.streamer.gather(model, gather.tensor, ids)
            ended = self.ledger.now_ns()
        self.sink.emit(
            Transfer(
                item.name, cause.stage, cause.step, "disk", self.tier, item.nbytes, began, ended,
                ended - began,
            )
        )  # fmt: skip
        stack.callback(self.ledger.free, key, self.tier, why)
        return rows

    def _keep(self, step: CallRecord, made: Tensors, cause: Cause) -> None:
        expected = {m.name: m for m in step.makes}
        if made.keys() != expected.keys():
            msg = f"{step.stage}/{step.kind} made {sorted(made)}, planned {sorted(expected)}"
            raise AssertionError(msg)
        for name, tensor in made.items():
            planned = expected[name]
            nbytes = tensor.untyped_storage().nbytes()
            if nbytes != planned.nbytes:
                msg = f"{name} has {nbytes} bytes, planned {planned.nbytes}"
                raise AssertionError(msg)
            with self.ledger.bring(Verb.PLACE, _item(planned), self.tier, "", cause):
                self._values[planned.value] = tensor
                self._made[planned.value] = planned
                self._numbers[name] = planned.value
            if self.watch is not None:
                self.watch(step.stage, name, tensor)

    def _free(self, number: int, cause: Cause) -> None:
        del self._values[number]
        for name in [n for n, value in self._numbers.items() if value == number]:
            del self._numbers[name]
        self.ledger.free(f"value.{number}", self.tier, attrs.evolve(cause, why="last use"))

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def _let_go(self) -> None:
        self._values.clear()
        self._coming.clear()
        self.streamer.close()


def _item(made: Made) -> Item:
    kind = Kind.STATE if made.is_state else Kind.VALUE
    return Item(f"value.{made.value}", made.name, kind, made.nbytes)


def _as_planned(resume: Resumption, name: str, made: Made) -> torch.Tensor:
    """A saved value, if it is what the plan has at that point."""
    found = resume.values.get(name)
    if found is None or found.nbytes != made.nbytes or tuple(found.shape) != made.shape:
        what = "is missing" if found is None else f"is {list(found.shape)}"
        raise InputError(
            f"the state after step {resume.step} of {resume.stage!r} can't be used: {name} {what}, "
            f"the plan has {list(made.shape)}",
            code="bad-state",
        )
    return found
