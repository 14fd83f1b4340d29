"""Drive programs on fake tensors and write down what each call costs. No weights, no real memory.

Fake `cpu` tensors stand in for every device: attention, convolution and GEMM are opaque calls
there, as they are on CUDA, and their own workspace comes from a table. Profiling on `meta` or fake
`cuda` would take attention apart into its score matrix.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import attrs
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop

from wanflow.scheduler.footprint import Cost, Footprint, Made, SegmentUse, StageFacts, Step
from wanflow.scheduler.kinds import Kind, KindStore
from wanflow.scheduler.layouts import fake_of, layout_of
from wanflow.scheduler.program import (
    GATHERED,
    Call,
    Placed,
    Program,
    interleave,
    is_state,
    split_outputs,
)
from wanflow.scheduler.workspace import Kernel, workspace_of

_aten = torch.ops.aten
_CLASSES = {
    _aten.mm: "gemm",
    _aten.addmm: "gemm",
    _aten.bmm: "gemm",
    _aten.baddbmm: "gemm",
    _aten.convolution: "conv",
}
_ATTENTION = _aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001


class _Recorder(TorchDispatchMode):
    """Count the live bytes of every storage made while active, and the FLOPs of every kernel."""

    def __init__(self, known: Iterable[torch.Tensor], workspace: Callable[[Any], Kernel]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = {_storage_key(t) for t in known}
        self._workspace = workspace
        self._refs: dict[int, weakref.ref[Any]] = {}
        self._numbers: dict[int, int] = {}
        self._taken = 0
        self.requests: list[int] = []  # see `Cost`
        self.live_bytes = 0
        self.peak_bytes = 0
        self.memory_bytes = 0
        self.kernels = 0
        self.flops: dict[str, float] = {}
        self.by_dtype: dict[str, float] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        made = [t for t in _flatten(out) if self._is_new(t)]
        for tensor in made:
            self._adopt(tensor)
        extra = self._workspace(func)(args, kwargs, out)
        if extra:
            self.requests.append(-self._take(extra))
        self.peak_bytes = max(self.peak_bytes, self.live_bytes + extra)
        self._count(func, args, kwargs, out, made)
        return out

    def _is_new(self, tensor: torch.Tensor) -> bool:
        key = _storage_key(tensor)
        return key not in self._known and key not in self._refs

    def _adopt(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, nbytes = _storage_key(tensor), storage.nbytes()
        number = self._numbers[key] = self._take(nbytes) if nbytes else 0

        def gone(_ref: object) -> None:
            self._refs.pop(key, None)
            self.live_bytes -= nbytes
            if number:
                self.requests.append(-number)

        self._refs[key] = weakref.ref(storage, gone)
        self.live_bytes += nbytes

    def _take(self, nbytes: int) -> int:
        self._taken += 1
        self.requests.append(nbytes)
        return self._taken

    def origin(self, tensor: torch.Tensor) -> int:
        """Give the number of the request for a tensor's storage, 0 for one made elsewhere."""
        key = _storage_key(tensor)
        return self._numbers[key] if key in self._refs else 0

    def _count(self, func: Any, args: Any, kwargs: Any, out: Any, made: list[torch.Tensor]) -> None:
        packet = func._overloadpacket  # noqa: SLF001
        if made or packet == _ATTENTION or packet in _CLASSES:
            self.kernels += 1
        if packet == _ATTENTION:
            self._add("attention", sdpa_flop(*(t.shape for t in args[:3])), args[0])
        elif packet in _CLASSES:
            flops = flop_registry[packet](*args, **kwargs, out_val=out)
            self._add(_CLASSES[packet], flops, args[0])
        elif made:
            inputs = (t for t in _flatten([args, kwargs]))
            self.memory_bytes += sum(t.nbytes for t in inputs) + sum(t.nbytes for t in made)

    def _add(self, kind: str, flops: float, operand: torch.Tensor) -> None:
        self.flops[kind] = self.flops.get(kind, 0) + flops
        dtype = _dtype_name(operand)
        self.by_dtype[dtype] = self.by_dtype.get(dtype, 0) + flops


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _storage_key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - the storage's identity


def _flatten(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        return [t for item in tree.values() for t in _flatten(item)]
    if isinstance(tree, (list, tuple)):
        return [t for item in tree for t in _flatten(item)]
    return []


@attrs.frozen
class Measured:
    """A kind of call: its cost, the (fake) tensors it makes, the inputs it passes on renamed."""

    cost: Cost
    by_dtype: Mapping[str, float]  # FLOPs
    makes: Mapping[str, torch.Tensor]
    renames: Mapping[str, str]


class Profiler:
    """Profile graphs for one device type; equal kinds of calls are measured once.

    *kinds* has those that were measured by another process.
    """

    def __init__(self, device: str, kinds: KindStore | None = None) -> None:
        self._workspace = workspace_of(device)
        self._kinds = kinds
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._seen: dict[tuple[object, ...], Measured] = {}

    def profile(
        self,
        programs: tuple[Program, ...],
        knobs: Mapping[str, Mapping[str, str]],
        keeps: Callable[[str], bool],
    ) -> Footprint:
        """Drive *programs* at *knobs*; *keeps* says which value names live to the end."""
        drive = _Drive(self, knobs, keeps)
        with torch.no_grad():
            for placed in interleave(programs, knobs, drive.shape):
                drive.run(placed)
        return drive.footprint(programs, knobs)

    def measure(
        self, placed: Placed, inputs: dict[str, torch.Tensor], knobs: Mapping[str, str]
    ) -> Measured:
        """Measure a call; memoised by stage, kind and input shapes, and on disk by *knobs* too."""
        shapes = tuple((n, tuple(t.shape), t.stride(), t.dtype) for n, t in inputs.items())
        key = (placed.program.stage, placed.call.kind, shapes)
        if key not in self._seen:
            self._seen[key] = self._look_up(placed, inputs, (*key, tuple(sorted(knobs.items()))))
        return self._seen[key]

    def _look_up(
        self, placed: Placed, inputs: dict[str, torch.Tensor], key: tuple[object, ...]
    ) -> Measured:
        """Find a kind in the store, else measure it and put it there.

        A numeric call makes real values, and a stand-in is quick and depends on what is outside.
        """
        call, stage = placed.call, placed.program.stage
        if self._kinds is None or call.numeric or call.stand_in is not None:
            return self._measure(placed, inputs)
        known = self._kinds.find(stage, key)
        if known is not None:
            return self._remake(known)
        found = self._measure(placed, inputs)
        makes = {name: layout_of(tensor) for name, tensor in found.makes.items()}
        self._kinds.add(stage, key, Kind(found.cost, found.by_dtype, makes, found.renames))
        return found

    def _remake(self, kind: Kind) -> Measured:
        makes = {name: fake_of(layout, self._mode) for name, layout in kind.makes.items()}
        return Measured(kind.cost, kind.by_dtype, makes, kind.renames)

    def _measure(self, placed: Placed, inputs: dict[str, torch.Tensor]) -> Measured:
        call, model = placed.call, placed.program.model
        with ExitStack() as stack:
            if call.segment is not None and model is not None:
                stack.callback(model.unbind, call.segment)  # after the mode: nothing fake stays
            if not call.numeric:
                stack.enter_context(self._mode)
            weights: dict[str, torch.Tensor] = {}
            if call.segment is not None and model is not None:
                specs = model.segments[call.segment].tensors
                weights = {t.name: torch.empty(t.shape, dtype=t.dtype) for t in specs}
                model.bind(call.segment, weights)
            recorder = _Recorder([*inputs.values(), *weights.values()], self._workspace)
            stack.enter_context(recorder)
            outputs = dict((call.stand_in or call.run)(inputs))
        split = split_outputs(outputs, inputs)
        _check_storages(placed, split.makes, inputs)
        made = {name: self._as_fake(tensor) for name, tensor in split.makes.items()}
        # A tensor made outside torch (from a NumPy array) passes the recorder by.
        least_bytes = sum(t.untyped_storage().nbytes() for t in split.makes.values())
        peak_bytes = max(recorder.peak_bytes, least_bytes)
        cost = Cost(
            peak_bytes, recorder.flops, recorder.memory_bytes, recorder.kernels,
            tuple(recorder.requests), tuple(recorder.origin(t) for t in split.makes.values()),
        )  # fmt: skip
        return Measured(cost, recorder.by_dtype, made, split.renames)

    def _as_fake(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._mode.from_tensor(tensor) if type(tensor) is torch.Tensor else tensor

    def fake(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return a fake tensor that stands for real bytes."""
        with self._mode:
            return torch.empty(shape, dtype=dtype)


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
        self.steps: list[Step] = []
        self._by_dtype: dict[str, dict[str, float]] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._values[name].shape)

    def run(self, placed: Placed) -> None:
        call, program = placed.call, placed.program
        inputs = {n: self._values[n] for n in call.reads if n in self._values}
        reads = tuple(self._numbers[n] for n in inputs)
        gathered = self._gather(call, program, inputs)
        found = self._profiler.measure(placed, inputs, self._knobs.get(program.stage, {}))
        renames = {
            new: (self._values[old], self._numbers[old]) for new, old in found.renames.items()
        }
        makes = tuple(self._make(name, tensor) for name, tensor in found.makes.items())
        for new, (tensor, number) in renames.items():
            self._values[new], self._numbers[new] = tensor, number
        self._note_dtypes(program.stage, found)
        segment = None
        if call.segment is not None and program.model is not None:
            segment = f"{program.model.name}/{call.segment}"
        passed_on = tuple((new, number) for new, (_, number) in renames.items())
        self.steps.append(
            Step(
                program.stage, call.kind, call.step, found.cost, segment, gathered, reads, makes,
                passed_on,
            )
        )  # fmt: skip

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

    def _note_dtypes(self, stage: str, found: Measured) -> None:
        """A stage's dtype is the one that most of its FLOPs are done in, else its values'."""
        counts = self._by_dtype.setdefault(stage, {})
        for name, flops in found.by_dtype.items():
            counts[name] = counts.get(name, 0) + flops
        for tensor in found.makes.values():
            if tensor.is_floating_point():
                counts.setdefault(_dtype_name(tensor), 0)

    def footprint(
        self, programs: tuple[Program, ...], knobs: Mapping[str, Mapping[str, str]]
    ) -> Footprint:
        segments: dict[str, SegmentUse] = {}
        for program in programs:
            if program.model is not None:
                for segment in program.model.segments.values():
                    name = f"{program.model.name}/{segment.name}"
                    segments[name] = SegmentUse(name, segment.nbytes)
        keeps = frozenset(n for name, n in self._numbers.items() if self._keeps(name))
        facts = tuple(_facts(p, knobs.get(p.stage, {})) for p in programs)
        dtypes = {s: max(n, key=lambda d: n[d]) for s, n in self._by_dtype.items() if n}
        staging = max((p.model.staging_bytes for p in programs if p.model is not None), default=0)
        return Footprint(facts, tuple(self.steps), segments, keeps, dtypes, staging)


def _facts(program: Program, knobs: Mapping[str, str]) -> StageFacts:
    model = program.model
    weights = sum(s.nbytes for s in model.segments.values()) if model is not None else 0
    by_name = {k.name: k for k in program.knobs}
    rounding = tuple(n for n, v in knobs.items() if by_name[n].choices[v] == "rounding")
    name = model.name if model is not None else None
    return StageFacts(
        program.stage, program.op, name, program.steps, weights, dict(knobs), rounding
    )


def _check_storages(
    placed: Placed, outputs: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor]
) -> None:
    """A value that shares its storage would be counted twice or freed too early."""
    taken = {_storage_key(t): n for n, t in inputs.items()}
    for name, tensor in outputs.items():
        key = _storage_key(tensor)
        if key in taken:
            where = f"{placed.program.stage}/{placed.call.kind}"
            msg = f"{where}: {name} shares its storage with {taken[key]}"
            raise AssertionError(msg)
        taken[key] = name
