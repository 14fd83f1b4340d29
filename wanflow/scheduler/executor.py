"""Run a plan: drive the programs for real, exactly as planned, every byte through the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import attrs
import torch

from wanflow.errors import OutOfMemory, StageFailed, WanflowError
from wanflow.scheduler.footprint import Made, Step
from wanflow.scheduler.ledger import Cause, Item, Ledger
from wanflow.scheduler.meter import CudaMeter, StorageMeter, meter_for
from wanflow.scheduler.plan import Plan, Turn
from wanflow.scheduler.program import GATHERED, Placed, Program, Tensors, interleave, split_outputs
from wanflow.scheduler.spans import Spans
from wanflow.scheduler.streamer import Streamer
from wanflow.trace.events import Kind, Verb
from wanflow.trace.writer import TraceSink

Watch = Callable[[str, str, torch.Tensor], None]


@attrs.frozen
class Outcome:
    """What a run leaves: the values that were kept, and the peak as somebody else measured it."""

    values: Mapping[str, torch.Tensor]
    peak_bytes: int
    peak_source: str
    ledger_peak_bytes: int


@attrs.define
class Executor:
    """Runs one plan once. *watch* sees every value as it is made (stage, name, tensor).

    *stop* is asked between calls; it raises to end the run (Ctrl-C).
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
    _meter: StorageMeter | CudaMeter = attrs.field(init=False)
    _values: dict[int, torch.Tensor] = attrs.field(factory=dict, init=False)
    _numbers: dict[str, int] = attrs.field(factory=dict, init=False)
    _cause: Cause = attrs.field(default=Cause("", 0, ""), init=False)

    @_meter.default
    def _meter_of_device(self) -> StorageMeter | CudaMeter:
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
                self.ledger.free_all(self.tier, attrs.evolve(self._cause, why="the run failed"))
                raise
            kept = {name: self._values[n] for name, n in self._numbers.items()}
            peaks = (meter.peak_bytes, meter.source)
        return Outcome(kept, *peaks, self.ledger.peak_bytes(self.tier))

    def _drive(self) -> None:
        spans = Spans(self.plan, self.sink, self.ledger, self._meter, self.tier)
        steps, turns = self.plan.footprint.steps, self.plan.turns
        calls = interleave(self.programs, self.plan.knobs, self._shape)
        index = -1
        try:
            for index, placed in enumerate(calls):
                if index == len(steps):
                    msg = f"{placed.program.stage}/{placed.call.kind} comes after the plan's end"
                    raise AssertionError(msg)
                if self.stop is not None:
                    self.stop()
                spans.before(placed.program.stage)
                self._turn(placed, steps[index], turns[index])
                spans.after(index)
        finally:
            calls.close()  # type: ignore[attr-defined]
        if index + 1 != len(steps):
            msg = f"the programs made {index + 1} calls, the plan has {len(steps)}"
            raise AssertionError(msg)
        spans.finish()

    def _turn(self, placed: Placed, step: Step, turn: Turn) -> None:
        self._agree(placed, step)
        cause = self._cause = Cause(step.stage, step.step, step.kind)
        for move in turn.brings:
            item = Item(move.segment, move.segment, Kind.WEIGHTS, move.nbytes)
            why = attrs.evolve(cause, why=move.cause)
            staging = self.plan.footprint.segments[move.segment].staging_bytes
            with (
                self.ledger.bring(move.verb, item, self.tier, "disk", why),
                self._staging(staging, cause),
            ):
                self.streamer.load(move.segment)
        self._call(placed, step, cause)
        for move in turn.drops:
            self.streamer.drop(move.segment)
            self.ledger.free(move.segment, self.tier, attrs.evolve(cause, why=move.cause))
        for number in turn.frees:
            self._free(number, cause)

    def _agree(self, placed: Placed, step: Step) -> None:
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

    def _staging(self, nbytes: int, cause: Cause) -> ExitStack:
        """Reserve what reading needs besides the memory that it fills."""
        stack = ExitStack()
        if nbytes and self.device.type == "cpu":
            stack.enter_context(self.ledger.workspace("read staging", nbytes, self.tier, cause))
        return stack

    def _call(self, placed: Placed, step: Step, cause: Cause) -> None:
        call = placed.call
        inputs = {n: self._values[self._numbers[n]] for n in call.reads if n in self._numbers}
        with ExitStack() as stack:
            if call.gather is not None:
                inputs[GATHERED] = self._gather(placed, step, cause, stack)
            nbytes = step.cost.workspace_bytes
            stack.enter_context(self.ledger.workspace(step.kind, nbytes, self.tier, cause))
            stack.enter_context(self._meter.call())
            outputs = split_outputs(_guarded(placed, inputs), inputs)
        renames = {new: self._numbers[old] for new, old in outputs.renames.items()}
        self._keep(step, outputs.makes, cause)
        self._numbers.update(renames)

    def _gather(self, placed: Placed, step: Step, cause: Cause, stack: ExitStack) -> torch.Tensor:
        gather, model = placed.call.gather, placed.program.model
        if gather is None or model is None:
            msg = f"{step.stage}/{step.kind} gathers from no model"
            raise AssertionError(msg)
        key = f"{model.name}/{gather.tensor}"
        item = Item(key, f"{key} rows", Kind.WEIGHTS, step.gathered_bytes)
        why = attrs.evolve(cause, why="rows of the prompt's tokens")
        ids = self._values[self._numbers[gather.ids]]
        with (
            self.ledger.bring(Verb.STREAM, item, self.tier, "disk", why),
            self._staging(step.gather_staging_bytes, cause),
        ):
            rows = self.streamer.gather(model, gather.tensor, ids)
        stack.callback(self.ledger.free, key, self.tier, why)
        return rows

    def _keep(self, step: Step, made: Tensors, cause: Cause) -> None:
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
                self._numbers[name] = planned.value
            if self.watch is not None:
                self.watch(step.stage, name, tensor)

    def _free(self, number: int, cause: Cause) -> None:
        del self._values[number]
        for name in [n for n, value in self._numbers.items() if value == number]:
            del self._numbers[name]
        self.ledger.free(f"value.{number}", self.tier, attrs.evolve(cause, why="last use"))

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._values[self._numbers[name]].shape)

    def _let_go(self) -> None:
        self._values.clear()
        self.streamer.drop_all()


def _item(made: Made) -> Item:
    kind = Kind.STATE if made.is_state else Kind.VALUE
    return Item(f"value.{made.value}", made.name, kind, made.nbytes)


def _guarded(placed: Placed, inputs: Tensors) -> Tensors:
    """Run the call; what a stage raises becomes one message with the stage and the call in it."""
    where = f"stage {placed.program.stage!r} ({placed.call.kind}, step {placed.call.step})"
    try:
        return placed.call.run(inputs)
    except WanflowError:
        raise
    except torch.cuda.OutOfMemoryError as error:
        problem: WanflowError = OutOfMemory(f"{where}: {str(error).splitlines()[0]}", code="oom")
    except MemoryError:
        problem = OutOfMemory(f"{where}: there is no memory left", code="oom")
    except OSError as error:
        path = f": {error.filename}" if error.filename else ""
        reason = error.strerror or str(error) or type(error).__name__
        problem = StageFailed(f"{where}: {reason}{path}", code="stage-io")
    except (RuntimeError, ValueError, TypeError) as error:
        problem = StageFailed(f"{where} failed: {error}", code="stage-failed")
    raise problem
