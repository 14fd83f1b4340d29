"""Drive programs on fake tensors and write down what each call costs. No weights, no real memory.

Tiny models may be driven on real tensors instead: fake ones take their time to get going.

Fake `cpu` tensors stand in for every device: attention, convolution and GEMM are opaque calls
there, as they are on CUDA, and their own workspace comes from a table. Profiling on `meta` or fake
`cuda` would take attention apart into its score matrix.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext

import attrs
import torch

from wanflow.scheduler.footprint.call_kinds import CallCost, CallKindStore
from wanflow.scheduler.footprint.costs import (
    CallRecord,
    Cost,
    Footprint,
    Made,
    SegmentUse,
    StageFacts,
)
from wanflow.scheduler.last_look import ANSWER_BYTES
from wanflow.scheduler.profile import fakes
from wanflow.scheduler.profile.kernel_workspace import workspace_of
from wanflow.scheduler.profile.recorder import Recorder, dtype_name, really, storage_key
from wanflow.scheduler.profile.tensor_layouts import layout_of
from wanflow.scheduler.program import (
    GATHERED,
    Call,
    Placed,
    Program,
    interleave,
    is_state,
    split_outputs,
)

_ANY_WEIGHT = 0.01


class _Places:
    """Take the places of a call out of names, and put them back; see `Call.places`."""

    def __init__(self, places: tuple[str, ...]) -> None:
        self._places = places
        self._marks = {place: f"#{index}" for index, place in reversed([*enumerate(places)])}

    def out(self, name: str) -> str:
        base, _, place = name.partition("@")
        return f"{base}@{self._marks[place]}" if place else name

    def back(self, name: str) -> str:
        base, _, mark = name.partition("@#")
        return f"{base}@{self._places[int(mark)]}" if mark else name


@attrs.frozen
class ProfiledCall:
    """A kind of call: its cost, the (fake) tensors it makes, the inputs it passes on renamed."""

    cost: Cost
    by_dtype: Mapping[str, float]  # FLOPs
    makes: Mapping[str, torch.Tensor]
    renames: Mapping[str, str]


class Profiler:
    """Profile graphs for one device type; equal kinds of calls are measured once.

    *kinds* has those that were measured by another process. With *real* tensors, all of weights
    that are the same number, it is quick for a tiny model, and impossible for others.
    """

    def __init__(
        self, device: str, kinds: CallKindStore | None = None, *, real: bool = False
    ) -> None:
        self._workspace = workspace_of(device)
        self._kinds = kinds
        self._answer_bytes = ANSWER_BYTES[device]
        self._real = real
        self._seen: dict[tuple[object, ...], ProfiledCall] = {}
        # By inputs' identities: these are kept with it, so that no other tensor takes one.
        self._met: dict[tuple[object, ...], tuple[ProfiledCall, tuple[torch.Tensor, ...]]] = {}

    def profile(
        self,
        programs: tuple[Program, ...],
        knobs: Mapping[str, Mapping[str, str]],
        keeps: Callable[[str], bool],
        stop: Callable[[], None] | None = None,
    ) -> Footprint:
        """Drive *programs* at *knobs*; *keeps* says which value names live to the end.

        *stop* is asked before each call; it raises to end it.
        """
        drive = _Drive(self, knobs, keeps)
        with torch.no_grad():
            for placed in interleave(programs, knobs, drive.shape):
                if stop is not None:
                    stop()
                drive.run(placed)
        return drive.footprint(programs, knobs)

    def measure(
        self, placed: Placed, inputs: dict[str, torch.Tensor], knobs: Mapping[str, str]
    ) -> ProfiledCall:
        """Measure a call; memoised by stage, kind and input shapes, and on disk by *knobs* too."""
        call = placed.call
        if call.places or self._real:
            return self._by_shapes(placed, inputs, knobs)
        # What a kind makes is the same tensors each time: from its second turn on a loop's inputs
        # are known by what they are, which is told sooner than how they lie.
        tensors = tuple(inputs.values())
        met = (placed.program.stage, call.kind, call.segment, *inputs, *map(id, tensors))
        if met not in self._met:
            self._met[met] = (self._by_shapes(placed, inputs, knobs), tensors)
        return self._met[met][0]

    def _by_shapes(
        self, placed: Placed, inputs: dict[str, torch.Tensor], knobs: Mapping[str, str]
    ) -> ProfiledCall:
        names = _Places(placed.call.places)
        shapes = tuple((names.out(n), *fakes.way_of(t)) for n, t in inputs.items())
        key = (placed.program.stage, placed.call.kind, _layout(placed), shapes)
        if key not in self._seen:
            whole_key = (*key, tuple(sorted(knobs.items())))
            self._seen[key] = self._look_up(placed, inputs, whole_key, names)
        profiled = self._seen[key]
        if not placed.call.places:
            return profiled
        makes = {names.back(name): tensor for name, tensor in profiled.makes.items()}
        renames = {names.back(new): names.back(old) for new, old in profiled.renames.items()}
        return ProfiledCall(profiled.cost, profiled.by_dtype, makes, renames)

    def _look_up(
        self,
        placed: Placed,
        inputs: dict[str, torch.Tensor],
        key: tuple[object, ...],
        names: _Places,
    ) -> ProfiledCall:
        """Find a kind in the store, else measure it and put it there; its names have no places.

        A numeric call makes real values, and a stand-in is quick and depends on what is outside.
        """
        call, stage = placed.call, placed.program.stage
        store = self._kinds if not call.numeric and call.stand_in is None else None
        cost = store.find(stage, key) if store is not None else None
        if cost is not None:
            return self._remake(cost)
        profiled = self._measure(placed, inputs)
        profiled = attrs.evolve(
            profiled,
            makes={names.out(name): tensor for name, tensor in profiled.makes.items()},
            renames={names.out(new): names.out(old) for new, old in profiled.renames.items()},
        )
        makes = {name: layout_of(tensor) for name, tensor in profiled.makes.items()}
        if store is not None:
            store.add(
                stage, key, CallCost(profiled.cost, profiled.by_dtype, makes, profiled.renames)
            )
        return profiled

    def _remake(self, kind: CallCost) -> ProfiledCall:
        if self._real:
            raise AssertionError("kinds of calls are kept without what they make")
        makes = {name: fakes.of_layout(layout) for name, layout in kind.makes.items()}
        return ProfiledCall(kind.cost, kind.by_dtype, makes, kind.renames)

    def _measure(self, placed: Placed, inputs: dict[str, torch.Tensor]) -> ProfiledCall:
        call, model = placed.call, placed.program.model
        with ExitStack() as stack:
            if call.segment is not None and model is not None:
                stack.callback(model.unbind, call.segment)  # after the mode: nothing fake stays
            weights: dict[str, torch.Tensor] = {}
            if call.segment is not None and model is not None:
                specs = model.segments[call.segment].tensors
                weights = {t.name: self.fake(t.shape, t.dtype) for t in specs}
                with nullcontext() if self._real else fakes.FakeMode():
                    model.bind(call.segment, weights)
            operate = fakes.as_given if call.numeric else fakes.faked
            operate = really if self._real else operate
            recorder = Recorder([*inputs.values(), *weights.values()], self._workspace, operate)
            stack.enter_context(recorder)
            outputs = dict((call.stand_in or call.run)(inputs))
        split = split_outputs(outputs, inputs)
        _check_storages(placed, split.makes, inputs)
        if any(tensor.is_floating_point() for tensor in split.makes.values()):
            recorder.pass_by(self._answer_bytes)
        makes = {name: self._as_fake(tensor) for name, tensor in split.makes.items()}
        # A tensor made outside torch (from a NumPy array) passes the recorder by.
        least_bytes = sum(t.untyped_storage().nbytes() for t in split.makes.values())
        peak_bytes = max(recorder.peak_bytes, least_bytes)
        cost = Cost(
            peak_bytes, recorder.flops, recorder.memory_bytes, recorder.kernels,
            tuple(recorder.requests), tuple(recorder.origin(t) for t in split.makes.values()),
            exchanged_bytes=recorder.exchanged_bytes, exchanges=recorder.exchanges,
        )  # fmt: skip
        return ProfiledCall(cost, recorder.by_dtype, makes, split.renames)

    def _as_fake(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if self._real or type(tensor) is not torch.Tensor else fakes.like(tensor)

    def fake(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return a fake tensor that stands for real bytes."""
        if self._real:
            return torch.full(shape, _ANY_WEIGHT, dtype=dtype)
        return fakes.empty(shape, dtype)


def _layout(placed: Placed) -> str:
    """How the weights of a call lie; nothing for one without."""
    segment, model = placed.call.segment, placed.program.model
    return "" if segment is None or model is None else model.segments[segment].layout


class _Drive:
    """One pass over a graph: the values by name, and the steps written down so far."""

    def __init__(
        self,
        profiler: Profiler,
        knobs: Mapping[str, Mapping[str, str]],
        keeps: Callable[[str], bool],
    ) -> None:
        self._profiler = profiler
        self._knobs = knobs
        self._keeps = keeps
        self._values: dict[str, torch.Tensor] = {}
        self._numbers: dict[str, int] = {}
        self._count = 0
        self.steps: list[CallRecord] = []
        self._by_dtype: dict[str, dict[str, float]] = {}
        self._segments: dict[str, SegmentUse] = {}
        self._used: dict[str, set[str]] = defaultdict(set)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._values[name].shape)

    def run(self, placed: Placed) -> None:
        call, program = placed.call, placed.program
        inputs = {n: self._values[n] for n in call.reads if n in self._values}
        reads = tuple(self._numbers[n] for n in inputs)
        gathered = self._gather(call, program, inputs)
        profiled = self._profiler.measure(placed, inputs, self._knobs.get(program.stage, {}))
        renames = {
            new: (self._values[old], self._numbers[old]) for new, old in profiled.renames.items()
        }
        makes = tuple(self._make(name, tensor) for name, tensor in profiled.makes.items())
        for new, (tensor, number) in renames.items():
            self._values[new], self._numbers[new] = tensor, number
        self._note_dtypes(program.stage, profiled)
        segment = self._use(call, program)
        passed_on = tuple((new, number) for new, (_, number) in renames.items())
        self.steps.append(
            CallRecord(
                program.stage, call.kind, call.step, profiled.cost, segment, gathered, reads, makes,
                passed_on,
            )
        )  # fmt: skip

    def _use(self, call: Call, program: Program) -> str | None:
        """Name the segment of a call, `model/segment`, and note that it is used."""
        if call.segment is None or program.model is None:
            return None
        name = f"{program.model.name}/{call.segment}"
        if name not in self._segments:
            segment = program.model.segments[call.segment]
            use = SegmentUse(name, segment.nbytes, file_bytes=segment.file_bytes)
            self._segments[name] = use
        self._used[program.stage].add(name)
        return name

    def _gather(self, call: Call, program: Program, inputs: dict[str, torch.Tensor]) -> int:
        if call.gather is None or program.model is None:
            return 0
        rows = self._values[call.gather.ids].numel()
        row = program.model.rows(call.gather.tensor)
        inputs[GATHERED] = self._profiler.fake((rows, *row.shape), row.dtype)
        return rows * row.nbytes

    def _make(self, name: str, tensor: torch.Tensor) -> Made:
        self._count += 1
        self._values[name] = tensor
        self._numbers[name] = self._count
        nbytes = tensor.untyped_storage().nbytes()
        return Made(self._count, name, nbytes, is_state(name), tuple(tensor.shape))

    def _note_dtypes(self, stage: str, profiled: ProfiledCall) -> None:
        """A stage's dtype is the one that most of its FLOPs are done in, else its values'."""
        counts = self._by_dtype.setdefault(stage, {})
        for name, flops in profiled.by_dtype.items():
            counts[name] = counts.get(name, 0) + flops
        for tensor in profiled.makes.values():
            if tensor.is_floating_point():
                counts.setdefault(dtype_name(tensor), 0)

    def footprint(
        self, programs: tuple[Program, ...], knobs: Mapping[str, Mapping[str, str]]
    ) -> Footprint:
        keeps = frozenset(n for name, n in self._numbers.items() if self._keeps(name))
        facts = tuple(self._facts(p, knobs.get(p.stage, {})) for p in programs)
        dtypes = {s: max(n, key=lambda d: n[d]) for s, n in self._by_dtype.items() if n}
        staging = max((p.model.staging_bytes for p in programs if p.model is not None), default=0)
        return Footprint(facts, tuple(self.steps), self._segments, keeps, dtypes, staging)

    def _facts(self, program: Program, knobs: Mapping[str, str]) -> StageFacts:
        weights = sum(self._segments[name].nbytes for name in self._used[program.stage])
        by_name = {k.name: k for k in program.knobs}
        rounding = tuple(n for n, v in knobs.items() if by_name[n].choices[v] == "rounding")
        name = program.model.name if program.model is not None else None
        return StageFacts(
            program.stage, program.op, name, program.steps, weights, dict(knobs), rounding
        )


def _check_storages(
    placed: Placed, outputs: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor]
) -> None:
    """A value that shares its storage would be counted twice or freed too early."""
    taken = {storage_key(t): n for n, t in inputs.items()}
    for name, tensor in outputs.items():
        key = storage_key(tensor)
        if key in taken:
            where = f"{placed.program.stage}/{placed.call.kind}"
            msg = f"{where}: {name} shares its storage with {taken[key]}"
            raise AssertionError(msg)
        taken[key] = name
