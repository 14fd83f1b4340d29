"""What a plan's moves do for real: loads by the streamer, calls of the programs, their values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol, cast

import attrs
import torch

from wanflow.scheduler.footprint.costs import CallRecord, Made
from wanflow.scheduler.plan.schedule import TierMove
from wanflow.scheduler.program import GATHERED, Gather, Model, Placed, Tensors, split_outputs
from wanflow.scheduler.run.error_words import guarded, making_room
from wanflow.scheduler.run.finite_check import FiniteCheck
from wanflow.scheduler.run.player import Arrival, Leftover
from wanflow.scheduler.run.streamer import Streamer

Watch = Callable[[str, str, torch.Tensor], None]


class CallWatch(Protocol):
    """Who measures what calls take."""

    def holds(self, tensor: torch.Tensor, /) -> int:
        """Memory is there that no call made."""

    def begin(self, call: CallRecord) -> None:
        """A call is about to run."""

    def end(self, made: Iterable[torch.Tensor]) -> None:
        """It has run, and made these."""


@attrs.define
class DeviceWorks:
    """The works of a run. `values` are the tensors by number, `numbers` what a name stands for.

    *watch* sees every value as it is made: stage, name, tensor. *check* looks at those that outlive
    their step while the call's room is still there.
    """

    streamer: Streamer
    watch: Watch | None
    check: FiniteCheck
    meter: CallWatch
    values: dict[int, torch.Tensor] = attrs.field(factory=dict, init=False)
    numbers: dict[str, int] = attrs.field(factory=dict, init=False)
    _names: dict[int, list[str]] = attrs.field(factory=dict, init=False)
    _placed: Placed = attrs.field(init=False)
    _reads: dict[str, int] = attrs.field(factory=dict, init=False)  # by name, their numbers
    _outputs: dict[str, torch.Tensor] = attrs.field(factory=dict, init=False)
    _rows: torch.Tensor | None = attrs.field(default=None, init=False)

    def begin(self, placed: Placed, record: CallRecord) -> None:
        """Go on to a program's call, which has to be the plan's."""
        call, program, numbers = placed.call, placed.program, self.numbers
        model, segment = program.model, None
        if call.segment is not None and model is not None:
            segment = f"{model.name}/{call.segment}"
        reads = {name: numbers[name] for name in call.reads if name in numbers}
        if (
            call.kind != record.kind
            or call.step != record.step
            or program.stage != record.stage
            or segment != record.segment
            or (*reads.values(),) != record.reads
        ):
            asked = (program.stage, call.kind, call.step, segment, (*reads.values(),))
            planned = (record.stage, record.kind, record.step, record.segment, record.reads)
            msg = f"the plan has the call {planned}, the program {asked}"
            raise AssertionError(msg)
        if call.gather is not None and model is None:
            msg = f"{record.stage}/{record.kind} gathers from no model"
            raise AssertionError(msg)
        self._placed, self._reads, self.check.call = placed, reads, record

    def saved(self, number: int) -> torch.Tensor:
        """A value wherever it is: one that is away, or on its way back, as the host has it."""
        away = self.streamer.values.kept(number)
        return self.values[number] if away is None else away

    def let_go(self) -> None:
        """Hold no tensor any more, after a failure too, whose error is the one that is told.

        A card that has failed raises the same at every call.
        """
        self.values.clear()
        self._outputs.clear()
        self._rows = None
        if not self.streamer.rests:
            with suppress(RuntimeError):
                self.streamer.close()

    def open_arena(self, model: str, nbytes: int) -> None:
        """Make the block that a model's segments lie in; OutOfMemory."""
        making_room(model, self.streamer.open_arena, model, nbytes)

    def close_arena(self, model: str) -> None:
        """Let it go."""
        self.streamer.close_arena(model)

    def found(self, move: TierMove) -> Leftover:
        """Say where the run before left a segment."""
        return self.streamer.found(move.segment)

    def start_segment(self, move: TierMove) -> None:
        """Start a load; OutOfMemory where there is no room."""
        making_room(move.segment, self.streamer.start, move.segment, move.offset_bytes)

    def start_value(self, number: int, move: TierMove) -> None:
        """Start bringing a spilled value back; OutOfMemory where there is no room."""
        making_room(move.segment, self.streamer.start_value, number)

    def segment(self, name: str) -> Arrival | None:
        """Wait for a segment and bind it."""
        return self.streamer.ready(name)

    def value(self, number: int) -> Arrival:
        """Wait for a value that comes back."""
        self.values[number], arrival = self.streamer.value(number)
        return arrival

    def rows_name(self, _call: CallRecord) -> str:
        """Give `model/tensor`."""
        model, gather = self._gathered
        return f"{model.name}/{gather.tensor}"

    def gather(self, _call: CallRecord) -> Arrival:
        """Read the rows that the call asks for."""
        model, gather = self._gathered
        began = time.perf_counter_ns()
        ids = self.values[self.numbers[gather.ids]]
        self._rows = self.streamer.gather(model, gather.tensor, ids)
        ended = time.perf_counter_ns()
        return Arrival("disk", began, ended, ended - began, began)

    @property
    def _gathered(self) -> tuple[Model, Gather]:
        return cast("tuple[Model, Gather]", (self._placed.program.model, self._placed.call.gather))

    def run(self, call: CallRecord) -> None:
        """Run the program's call: what it makes is what the plan has, to the byte."""
        values, reads, meter = self.values, self._reads, self.meter
        inputs = {name: values[number] for name, number in reads.items()}
        if self._rows is not None:
            inputs[GATHERED], self._rows = self._rows, None
        meter.begin(call)
        outputs = split_outputs(guarded(self._placed, inputs), inputs)
        makes = outputs.makes
        if makes or call.makes:
            _check_made(call, makes)
            making_room("a look at what was made", self.check.made, makes)
            self._outputs = dict(makes)
        meter.end(makes.values())
        for new, old in outputs.renames.items():
            self._name(new, reads[old])

    def _name(self, name: str, number: int) -> None:
        """Let a name stand for a value."""
        if self.numbers.get(name) != number:
            self.numbers[name] = number
            self._names.setdefault(number, []).append(name)

    def keep(self, value: Made) -> None:
        """Keep a value that the call made."""
        tensor = self._outputs.pop(value.name)
        self.put(value.value, tensor, value.name)
        if self.watch is not None:
            self.watch(self._placed.program.stage, value.name, tensor)

    def put(self, number: int, tensor: torch.Tensor | None, name: str) -> None:
        """Have a value by its number and a name; None for one that is not on the device."""
        if tensor is not None:
            self.values[number] = tensor
        self._name(name, number)

    def drop(self, segment: str) -> None:
        """Let a segment's memory go."""
        self.streamer.drop(segment)

    def leave(self, segment: str) -> None:
        """Leave a segment's memory for the next run."""
        self.streamer.leave(segment)

    def spill(self, move: TierMove) -> None:
        """Copy a value to the host and let its memory on the device go."""
        (number,) = move.values
        self.streamer.values.spill(number, self.values[number])
        del self.values[number]

    def free(self, number: int) -> None:
        """Let a value go, under all its names."""
        del self.values[number]
        for name in self._names.pop(number, ()):
            if self.numbers.get(name) == number:
                del self.numbers[name]


def _check_made(call: CallRecord, outputs: Tensors) -> None:
    if len(outputs) != len(call.makes) or any(value.name not in outputs for value in call.makes):
        planned = sorted(value.name for value in call.makes)
        msg = f"{call.stage}/{call.kind} made {sorted(outputs)}, planned {planned}"
        raise AssertionError(msg)
    for value in call.makes:
        nbytes = outputs[value.name].untyped_storage().nbytes()
        if nbytes != value.nbytes:
            msg = f"{value.name} has {nbytes} bytes, planned {value.nbytes}"
            raise AssertionError(msg)
