"""Bring segments from the disk to the device, each as one slab. Only the streamer opens weights.

On a CPU the slab is filled in place. On CUDA it is filled through one pinned buffer on the host,
which is charged to the host's budget; the buffer is used again only when the copy out of it has
ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from wanflow.scheduler.program import Model, Segment, TensorSpec


class WeightSource(Protocol):
    """Tensors of a checkpoint by name, read into memory that the caller owns."""

    def read_into(self, name: str, target: torch.Tensor, staging: torch.Tensor | None) -> None:
        """Read a whole tensor into contiguous CPU memory."""

    def read_rows_into(
        self, name: str, rows: list[int], target: torch.Tensor, staging: torch.Tensor | None
    ) -> None:
        """Read rows of a matrix into contiguous CPU memory."""


class Streamer:
    """Loads and drops the segments of the models it was given, by `model/segment`."""

    def __init__(
        self,
        models: Mapping[str, Model],
        sources: Mapping[str, WeightSource],
        device: torch.device,
    ) -> None:
        self._models, self._sources, self._device = models, sources, device
        self._bound: set[str] = set()
        self._pinned: torch.Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def host_bytes(self) -> int:
        """What the pinned buffer takes: the largest segment on CUDA, nothing on a CPU."""
        if self._device.type == "cpu":
            return 0
        sizes = (s.nbytes for m in self._models.values() for s in m.segments.values())
        return max(sizes, default=0)

    def load(self, key: str) -> None:
        """Read a segment into a new slab and bind the module's parameters to views of it."""
        name, segment = self._segment(key)
        model, source = self._models[name], self._sources[name]
        slab = torch.empty(segment.nbytes, dtype=torch.uint8, device=self._device)
        host = slab if self._device.type == "cpu" else self._buffer(segment.nbytes)
        staging = _staging(model)
        for spec in segment.tensors:
            source.read_into(spec.name, _view(host, spec), staging)
        if host is not slab:
            self._upload(host, slab)
        model.bind(segment.name, {spec.name: _view(slab, spec) for spec in segment.tensors})
        self._bound.add(key)

    def drop(self, key: str) -> None:
        """Let a segment's slab go."""
        name, segment = self._segment(key)
        self._models[name].unbind(segment.name)
        self._bound.discard(key)

    def drop_all(self) -> None:
        """Let everything go, after a failure too."""
        for key in tuple(self._bound):
            self.drop(key)
        self._pinned = None

    def gather(self, model: Model, tensor: str, ids: torch.Tensor) -> torch.Tensor:
        """Read the rows *ids* (any shape, int64) of a weight: `[ids.numel(), width]`."""
        row = model.rows(tensor)
        wanted = ids.reshape(-1).tolist()
        rows = torch.empty((len(wanted), *row.shape), dtype=row.dtype)
        self._sources[model.name].read_rows_into(tensor, wanted, rows, _staging(model))
        return rows.to(self._device)

    def _segment(self, key: str) -> tuple[str, Segment]:
        name, _, segment = key.partition("/")
        return name, self._models[name].segments[segment]

    def _buffer(self, nbytes: int) -> torch.Tensor:
        if self._copied is not None:
            self._copied.synchronize()
        if self._pinned is None:
            self._pinned = torch.empty(self.host_bytes(), dtype=torch.uint8, pin_memory=True)
        return self._pinned[:nbytes]

    def _upload(self, host: torch.Tensor, slab: torch.Tensor) -> None:
        slab.copy_(host, non_blocking=True)
        self._copied = torch.cuda.Event()
        self._copied.record()


def _view(slab: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    part = slab[spec.offset : spec.offset + spec.nbytes]
    return part.view(spec.dtype).view(spec.shape)


def _staging(model: Model) -> torch.Tensor | None:
    nbytes = model.staging_bytes
    return torch.empty(nbytes, dtype=torch.uint8) if nbytes else None
