"""Cut a module's parameters into segments, and let them be bound to any memory and forgotten."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import torch

from wanflow.models.packing.linear import packed
from wanflow.models.precisions import PRECISIONS
from wanflow.models.segments.discover import Segmentation
from wanflow.scheduler.program import Segment, TensorSpec

# Of every tensor in a slab: what CUDA's allocator promises, and more than MKL's 64.
ALIGNMENT_BYTES = 256

DTYPES = dict(zip(PRECISIONS, (torch.float32, torch.bfloat16, torch.float16), strict=True))


def _aligned(nbytes: int) -> int:
    return math.ceil(nbytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def dtype_of(module: torch.nn.Module, name: str, precision: str) -> torch.dtype:
    """The dtype upstream gives a parameter: some modules are kept in fp32 at lower precisions.

    diffusers keeps `_keep_in_fp32_modules` at both bf16 and fp16
    (`models/model_loading_utils.py`); transformers keeps them at fp16 only
    (`modeling_utils.py`, `_keep_in_fp32_modules`). A piece of a packed weight has its own.
    """
    owner, _, leaf = name.rpartition(".")
    linear = packed(module.get_submodule(owner))
    if linear is not None and leaf in linear.form.pieces:
        return linear.form.pieces[leaf].dtype
    fp32_modules = getattr(module, "_keep_in_fp32_modules", None) or ()
    is_transformers = type(module).__module__.startswith("transformers.")
    always = precision == "fp16" or not is_transformers
    if precision not in getattr(module, "keeps_fp32_at", (precision,) if always else ()):
        fp32_modules = ()
    if any(part in fp32_modules for part in name.split(".")):
        return torch.float32
    return DTYPES[precision]


def may_pack(module: torch.nn.Module, name: str) -> bool:
    """Whether the parameter *name* is a Linear's weight that upstream does not keep in fp32.

    Upstream asks such a module for its dtype, and casts what comes in.
    """
    path, _, leaf = name.rpartition(".")
    is_linear = leaf == "weight" and type(module.get_submodule(path)) is torch.nn.Linear
    return is_linear and dtype_of(module, name, "bf16") == torch.bfloat16


def packable(module: torch.nn.Module) -> list[str]:
    """Name the weights worth packing: of Linears in the layers that repeat."""
    lists = [f"{n}." for n, m in module.named_modules() if isinstance(m, torch.nn.ModuleList)]
    return [
        name
        for name, _ in module.named_parameters()
        if name.startswith(tuple(lists)) and may_pack(module, name)
    ]


def cut(
    module: torch.nn.Module,
    groups: Mapping[str, Sequence[str]],
    precision: str,
    read_bytes: Mapping[str, int] | None = None,
) -> dict[str, Segment]:
    """Cut *module* into segments: *groups* maps a segment's name to the names of its parameters.

    Parameters in no group belong to no segment (an encoder that is never run). *read_bytes* are
    those of parameters that are read in other bytes than they have.
    """
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    return {
        segment: _pack(module, segment, {n: shapes[n] for n in names}, precision, read_bytes or {})
        for segment, names in groups.items()
    }


def _pack(
    module: torch.nn.Module,
    segment: str,
    shapes: Mapping[str, tuple[int, ...]],
    precision: str,
    read_bytes: Mapping[str, int],
) -> Segment:
    specs, offset = [], 0
    for name, shape in shapes.items():
        dtype = dtype_of(module, name, precision)
        nbytes = math.prod(shape) * dtype.itemsize
        specs.append(TensorSpec(name, shape, dtype, offset, nbytes))
        offset += _aligned(nbytes)
    more_bytes = sum(read_bytes[s.name] - s.nbytes for s in specs if s.name in read_bytes)
    return Segment(segment, tuple(specs), offset, file_bytes=offset + more_bytes)


def _by_path(groups: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    """Map each module path, and each parameter, to the segments that have weights there."""
    segments: dict[str, set[str]] = {}
    for segment, names in groups.items():
        for name in names:
            pieces = name.split(".")
            for end in range(1, len(pieces) + 1):
                segments.setdefault(".".join(pieces[:end]), set()).add(segment)
    return segments


@attrs.define
class BoundModule:
    """A meta module whose parameters come and go by segment. Implements scheduler.program.Model.

    `segments` are those of *segmentation* and their parts, by name: a stage runs with either.
    `read_bytes` are those of the parameters that are read in other bytes than they have.
    """

    name: str
    module: torch.nn.Module
    segmentation: Segmentation
    staging_bytes: int
    precision: str
    read_bytes: Mapping[str, int] = attrs.field(factory=dict)
    segments: Mapping[str, Segment] = attrs.field(init=False)
    _owners: Mapping[str, tuple[str, ...]] = attrs.field(init=False)  # segments of a parameter
    _whole: Mapping[str, set[str]] = attrs.field(init=False)
    _finest: Mapping[str, set[str]] = attrs.field(init=False)
    _bound: dict[str, Mapping[str, torch.Tensor]] = attrs.field(init=False, factory=dict)
    _asked: dict[tuple[tuple[str, ...], bool], str] = attrs.field(init=False, factory=dict)
    _places: dict[str, tuple[dict[str, torch.nn.Parameter | None], str]] = attrs.field(
        init=False, factory=dict
    )  # where each parameter is: looking for it takes longer than binding it
    _absents: dict[str, torch.nn.Parameter] = attrs.field(init=False, factory=dict)

    @segments.default
    def _cut(self) -> Mapping[str, Segment]:
        names = {**self.segmentation.segments, **self.segmentation.finest}
        return cut(self.module, names, self.precision, self.read_bytes)

    @_owners.default
    def _find_owners(self) -> Mapping[str, tuple[str, ...]]:
        owners: dict[str, tuple[str, ...]] = {}
        for segment in self.segments.values():
            for spec in segment.tensors:
                owners[spec.name] = (*owners.get(spec.name, ()), segment.name)
        return owners

    @_whole.default
    def _find_whole(self) -> Mapping[str, set[str]]:
        return _by_path(self.segmentation.segments)

    @_finest.default
    def _find_finest(self) -> Mapping[str, set[str]]:
        return _by_path(self.segmentation.finest)

    def segment_of(self, *paths: str, part: bool = False) -> str:
        """Name the segment that has the weights under these module paths; with *part* the part."""
        key = (paths, part)
        if key not in self._asked:
            self._asked[key] = self._segment_of(paths, self._finest if part else self._whole)
        return self._asked[key]

    def _segment_of(self, paths: Sequence[str], at: Mapping[str, set[str]]) -> str:
        owners = {segment for path in paths for segment in at.get(path, ())}
        if len(owners) != 1:
            msg = (
                f"{self.name}: {', '.join(paths)} in {sorted(owners) or 'no'} segments, not in one"
            )
            raise AssertionError(msg)
        return owners.pop()

    def rows(self, tensor: str) -> TensorSpec:
        """The spec of one row of *tensor*, in the dtype it is used in."""
        shape = tuple(self.module.get_parameter(tensor).shape[1:])
        dtype = dtype_of(self.module, tensor, self.precision)
        return TensorSpec(tensor, shape, dtype, 0, math.prod(shape) * dtype.itemsize)

    def bind(self, segment: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Let the parameters of *segment* be *tensors*; a wrong shape or dtype is our own fault."""
        for spec in self.segments[segment].tensors:
            tensor = tensors[spec.name]
            if tuple(tensor.shape) != spec.shape or tensor.dtype != spec.dtype:
                msg = f"{spec.name}: {tensor.dtype}{tuple(tensor.shape)} for {spec}"
                raise AssertionError(msg)
            self._put(spec.name, tensor)
        self._bound[segment] = tensors

    def unbind(self, segment: str) -> None:
        """Forget its tensors: afterwards nothing here holds the segment's memory.

        A parameter is what another bound segment has for it (a block and its parts), else on meta.
        """
        self._bound.pop(segment, None)
        for spec in self.segments[segment].tensors:
            others = (self._bound[o] for o in self._owners[spec.name] if o in self._bound)
            tensor = next((tensors[spec.name] for tensors in others), None)
            self._put(spec.name, self._absent(spec) if tensor is None else tensor)

    def _absent(self, spec: TensorSpec) -> torch.Tensor:
        """What a parameter is while nothing is bound: made once."""
        absent = self._absents.get(spec.name)
        if absent is None:
            empty = torch.empty(spec.shape, dtype=spec.dtype, device="meta")
            absent = self._absents[spec.name] = torch.nn.Parameter(empty, requires_grad=False)
        return absent

    def _put(self, name: str, tensor: torch.Tensor) -> None:
        place = self._places.get(name)
        if place is None:
            owner, _, leaf = name.rpartition(".")
            place = (self.module.get_submodule(owner)._parameters, leaf)  # noqa: SLF001
            self._places[name] = place
        parameters, leaf = place
        if not isinstance(tensor, torch.nn.Parameter):
            tensor = torch.nn.Parameter(tensor, requires_grad=False)
        parameters[leaf] = tensor
