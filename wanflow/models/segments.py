"""Cut a module's parameters into segments, and let them be bound to any memory and forgotten."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs
import torch

from wanflow.scheduler.program import Segment, TensorSpec

# Of every tensor in a slab: what CUDA's allocator promises, and more than MKL's 64.
ALIGNMENT_BYTES = 256

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def _aligned(nbytes: int) -> int:
    return math.ceil(nbytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def dtype_of(module: torch.nn.Module, name: str, precision: str) -> torch.dtype:
    """The dtype upstream gives a parameter: some modules are kept in fp32 at lower precisions.

    diffusers keeps `_keep_in_fp32_modules` at both bf16 and fp16
    (`models/model_loading_utils.py`); transformers keeps them at fp16 only
    (`modeling_utils.py`, `_keep_in_fp32_modules`).
    """
    kept = getattr(module, "_keep_in_fp32_modules", None) or ()
    is_transformers = type(module).__module__.startswith("transformers.")
    applies = precision == "fp16" or not is_transformers
    if applies and any(part in kept for part in name.split(".")):
        return torch.float32
    return DTYPES[precision]


def cut(
    module: torch.nn.Module, groups: Mapping[str, tuple[str, ...]], precision: str
) -> dict[str, Segment]:
    """Cut *module* into segments: *groups* maps a segment's name to parameter-name prefixes.

    Parameters outside every group belong to no segment (an encoder that is never run).
    """
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    segments = {}
    for segment, prefixes in groups.items():
        names = [n for n in shapes if any(n == p or n.startswith(p + ".") for p in prefixes)]
        segments[segment] = _pack(module, segment, {n: shapes[n] for n in names}, precision)
    return {name: segment for name, segment in segments.items() if segment.tensors}


def _pack(
    module: torch.nn.Module, segment: str, shapes: Mapping[str, tuple[int, ...]], precision: str
) -> Segment:
    specs, offset = [], 0
    for name, shape in shapes.items():
        dtype = dtype_of(module, name, precision)
        nbytes = math.prod(shape) * dtype.itemsize
        specs.append(TensorSpec(name, shape, dtype, offset, nbytes))
        offset += _aligned(nbytes)
    return Segment(segment, tuple(specs), offset)


@attrs.define
class BoundModule:
    """A meta module whose parameters come and go by segment. Implements scheduler.program.Model."""

    name: str
    module: torch.nn.Module
    segments: Mapping[str, Segment]
    staging_bytes: int
    precision: str

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

    def unbind(self, segment: str) -> None:
        """Put meta parameters back: afterwards nothing here holds the segment's memory."""
        for spec in self.segments[segment].tensors:
            self._put(spec.name, torch.empty(spec.shape, dtype=spec.dtype, device="meta"))

    def _put(self, name: str, tensor: torch.Tensor) -> None:
        owner, _, leaf = name.rpartition(".")
        parameter = torch.nn.Parameter(tensor, requires_grad=False)
        self.module.get_submodule(owner)._parameters[leaf] = parameter  # noqa: SLF001
