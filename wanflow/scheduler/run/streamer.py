"""Bring segments from the disk to the device ahead of their use. Nobody else opens weights.

A reader thread serves loads in the order in which they were started. On a CPU it fills the slab in
place. Where bytes pass through the host it reads into a ring of pinned buffers and starts the
upload; a buffer is used again once the copy out of it has ended. With `overlap` off, a load is done
when `start` returns: the plain twin that the tests compare with.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeVar

import attrs
import torch

from wanflow.scheduler.plan.arenas import Arena
from wanflow.scheduler.plan.host_memory import NOTHING, RING
from wanflow.scheduler.plan.schedule import HostPlan
from wanflow.scheduler.program import Model, Segment, Tensors, TensorSpec
from wanflow.scheduler.run.devices import DONE, Device, Ticket
from wanflow.scheduler.run.player import Arrival, Leftover
from wanflow.scheduler.run.spilled_values import HostValues

_Result = TypeVar("_Result")
_NO_SEGMENTS: Mapping[str, int | None] = {}


class WeightSource(Protocol):
    """Tensors of a checkpoint by name, read into memory that the caller owns."""

    def read_into(self, name: str, target: torch.Tensor, staging: torch.Tensor | None) -> None:
        """Read a whole tensor into contiguous CPU memory."""

    def read_each_into(
        self, targets: Mapping[str, torch.Tensor], staging: torch.Tensor | None
    ) -> None:
        """Read whole tensors by name, each into contiguous CPU memory."""

    def read_rows_into(
        self, name: str, rows: list[int], target: torch.Tensor, staging: torch.Tensor | None
    ) -> None:
        """Read rows of a matrix into contiguous CPU memory."""


@attrs.frozen
class _Loaded:
    """`views` are a segment's tensors where they were read into its slab itself."""

    ticket: Ticket
    queue: str
    began_ns: int
    ended_ns: int
    views: Tensors | None = None

    def arrival(self, waited_ns: int, asked_ns: int) -> Arrival:
        """Say how it came to whoever waited for it."""
        span = (self.queue, self.began_ns, self.ended_ns)
        return Arrival(*span, waited_ns, asked_ns, self.ticket.copy)


@attrs.frozen
class _Views:
    """A segment's parameters, as they are wherever it lies at an address."""

    place: int
    parameters: Tensors


@attrs.define
class _Buffer:
    memory: torch.Tensor
    ticket: Ticket = DONE


class Streamer:
    """Loads and drops the segments of the models it was given, by `model/segment`."""

    def __init__(
        self,
        models: Mapping[str, Model],
        sources: Mapping[str, WeightSource],
        device: Device,
        *,
        overlap: bool = True,
    ) -> None:
        self._models, self._sources, self._device = models, sources, device
        self._overlap = overlap
        self._plan = NOTHING
        self._slabs: dict[str, torch.Tensor] = {}
        self._pending: dict[str, Future[_Loaded]] = {}
        self._host: dict[str, torch.Tensor] = {}
        self._filled: set[str] = set()
        self._staging: torch.Tensor | None = None
        self._ring: list[_Buffer] = []
        self._reader: _ReaderThread | None = None
        self._arenas: dict[str, torch.Tensor] = {}
        self._views: dict[str, _Views] = {}  # of segments in arenas, where they lay last
        self.values = HostValues(device)
        self._coming: dict[int, tuple[torch.Tensor, Future[_Loaded]]] = {}
        self.notice: Callable[[torch.Tensor], object] = _nobody  # who counts memory
        self.rests = False  # between two runs
        self._opened: object = None
        self._left: set[str] = set()  # segments that are there for the next run

    @property
    def has_host_tier(self) -> bool:
        """Whether bytes pass through the host on their way to the device."""
        return self._device.has_host_tier

    def open(
        self,
        host: HostPlan,
        staging_bytes: int,
        finds: Mapping[str, int | None] = _NO_SEGMENTS,
        arenas: Sequence[Arena] = (),
    ) -> None:
        """Make the buffers of *host*, a chunk for tensors that change dtype, and the reader.

        After `rest` they are there, and of what was left that which the plan *finds*. All of it
        goes first where the plan has other buffers, arenas or places in these.
        """
        plan = (host, staging_bytes, tuple(arenas), finds if arenas else None)
        if self.rests and plan == self._opened:
            self.rests = False
            for key in self._left.difference(finds):
                self._left.discard(key)
                self.drop(key)
            self._notice_staging()
            return
        if self.rests:
            self.close()
        self._plan, self._opened = host, plan
        self._staging = torch.empty(staging_bytes, dtype=torch.uint8) if staging_bytes else None
        self._notice_staging()
        if self.has_host_tier and host.ring_bytes:
            buffers = (self._device.host_buffer(host.ring_bytes) for _ in range(RING))
            self._ring = [_Buffer(memory) for memory in buffers]
        self._reader = _ReaderThread() if self._overlap else None

    def _notice_staging(self) -> None:
        """It is the device's memory where there is no other."""
        if self._staging is not None and not self.has_host_tier:
            self.notice(self._staging)

    def open_arena(self, model: str, nbytes: int) -> None:
        """Make the block of memory that a model's segments lie in from now on."""
        if model not in self._arenas:
            self._arenas[model] = self._device.slab(nbytes)
        self.notice(self._arenas[model])

    def close_arena(self, model: str) -> None:
        """Let it go, unless something in it is there for the next run."""
        if any(key.partition("/")[0] == model for key in self._left):
            return
        self._views = {k: v for k, v in self._views.items() if k.partition("/")[0] != model}
        del self._arenas[model]

    def found(self, key: str) -> Leftover:
        """Say where the run before left a segment."""
        if key in self._left:
            return Leftover.DEVICE
        return Leftover.HOST if key in self._filled else Leftover.NOWHERE

    def start(self, key: str, offset_bytes: int | None = None) -> None:
        """Start the load of a segment, into its model's arena or into a slab of its own."""
        if key in self._left:  # loaded, or on its way
            self._left.discard(key)
            self.notice(self._slabs[key])
            return
        name, segment = self._segment(key)
        if offset_bytes is None:
            slab = self._device.slab(segment.nbytes)
            self.notice(slab)
        else:
            part = self._arenas[name][offset_bytes : offset_bytes + segment.nbytes]
            slab = self._device.reuse(part)
        self._slabs[key] = slab
        self._pending[key] = self._do(lambda: self._load(key, slab))

    def ready(self, key: str) -> Arrival | None:
        """Wait for a load that was started and bind it; None when that was done before."""
        pending = self._pending.pop(key, None)
        if pending is None:
            return None
        asked = time.perf_counter_ns()
        loaded = pending.result()
        loaded.ticket.wait()
        waited = time.perf_counter_ns() - asked
        name, segment = self._segment(key)
        slab = self._slabs[key]
        parameters = self._parameters(key, segment, slab, loaded.views)
        self._models[name].bind(segment.name, parameters)
        return loaded.arrival(waited, asked)

    def _parameters(
        self, key: str, segment: Segment, slab: torch.Tensor, read: Tensors | None
    ) -> Tensors:
        """Give a segment's parameters; those of a place that it lay in before are there still."""
        place = slab.data_ptr()
        seen = self._views.get(key)
        if seen is not None and seen.place == place:
            return seen.parameters
        views = read if read is not None else _views(slab, segment)
        made = {n: torch.nn.Parameter(view, requires_grad=False) for n, view in views.items()}
        arena = self._arenas.get(key.partition("/")[0])
        if arena is not None and 0 <= place - arena.data_ptr() < arena.numel():
            self._views[key] = _Views(place, made)  # a slab of its own would be held by them
        return made

    def start_value(self, number: int) -> None:
        """Start bringing a spilled value back, in turn with the loads of weights."""
        slab = self.values.slab(number)
        self.notice(slab)

        def job() -> _Loaded:
            began = time.perf_counter_ns()
            return _Loaded(self.values.upload(number, slab), "copy", began, time.perf_counter_ns())

        self._coming[number] = (slab, self._do(job))

    def value(self, number: int) -> tuple[torch.Tensor, Arrival]:
        """Wait for a value that was started and give it."""
        slab, pending = self._coming.pop(number)
        asked = time.perf_counter_ns()
        loaded = pending.result()
        loaded.ticket.wait()
        tensor = self.values.back(number, slab, loaded.ticket)
        waited = time.perf_counter_ns() - asked
        return tensor, loaded.arrival(waited, asked)

    def drop(self, key: str) -> None:
        """Let a segment's slab go."""
        name, segment = self._segment(key)
        pending = self._pending.pop(key, None)
        if pending is not None:
            pending.result().ticket.wait()  # nothing writes to memory that is let go of
        self._models[name].unbind(segment.name)
        del self._slabs[key]

    def leave(self, key: str) -> None:
        """Leave a segment's slab, or its load, for the next run."""
        self._left.add(key)

    def gather(self, model: Model, tensor: str, ids: torch.Tensor) -> torch.Tensor:
        """Read the rows *ids* (any shape, int64) of a weight: `[ids.numel(), width]`."""
        row = model.rows(tensor)
        wanted = ids.reshape(-1).tolist()
        rows = torch.empty((len(wanted), *row.shape), dtype=row.dtype)
        self.notice(rows)
        source = self._sources[model.name]
        self._do(lambda: source.read_rows_into(tensor, wanted, rows, self._staging)).result()
        return rows.to(self._device.torch_device)

    def rest(self) -> None:
        """End a run that left something for the next one; `close` lets it go."""
        self.rests = True
        self.notice = _nobody

    def close(self) -> None:
        """Let everything go, after a failure too: no thread of ours writes to memory after this."""
        self.rests = False
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        try:
            self._device.settle()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._pending.clear()
        self._left.clear()
        self._coming.clear()
        self.values.clear()
        for key in tuple(self._slabs):
            self.drop(key)
        self._views.clear()
        self._arenas.clear()
        self._host.clear()
        self._filled.clear()
        self._ring.clear()
        self._staging = None

    def _do(self, job: Callable[[], _Result]) -> Future[_Result]:
        if self._reader is not None:
            return self._reader.submit(job)
        future: Future[_Result] = Future()
        _settle(future, job)
        return future

    def _load(self, key: str, slab: torch.Tensor) -> _Loaded:
        """Runs on the reader's thread."""
        began = time.perf_counter_ns()
        queue_name = "copy" if key in self._filled else "disk"
        views, ticket = None, DONE
        if self._device.has_host_tier:
            ticket = self._bring(key, slab)
        else:
            views = self._read(key, slab)
        return _Loaded(ticket, queue_name, began, time.perf_counter_ns(), views)

    def _bring(self, key: str, slab: torch.Tensor) -> Ticket:
        """Read a segment into the host's memory, and start the copy from there."""
        if key in self._plan.cached:
            if key not in self._host:  # its pages are locked here: that takes as long as reading
                self._host[key] = self._device.host_buffer(slab.numel())
            host = self._host[key]
            if key not in self._filled:
                self._read(key, host)
                self._filled.add(key)
            return self._device.upload(host, slab)
        buffer = self._ring[0]
        self._ring.append(self._ring.pop(0))
        buffer.ticket.host_is_free()
        host = buffer.memory[: slab.numel()]
        self._read(key, host)
        buffer.ticket = self._device.upload(host, slab)
        return buffer.ticket

    def _read(self, key: str, target: torch.Tensor) -> Tensors:
        name, segment = self._segment(key)
        views = _views(target, segment)
        self._sources[name].read_each_into(views, self._staging)
        return views

    def _segment(self, key: str) -> tuple[str, Segment]:
        name, _, segment = key.partition("/")
        return name, self._models[name].segments[segment]


class _ReaderThread:
    """One thread that runs jobs in order; closing it skips those that have not begun."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="wanflow-reader", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], _Result]) -> Future[_Result]:
        """Queue *job*."""
        future: Future[_Result] = Future()
        self._jobs.put(lambda: _settle(future, job))
        return future

    def close(self) -> None:
        """End the thread after the job that it is at."""
        self._closing = True
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        with torch.no_grad():
            while (job := self._jobs.get()) is not None:
                if not self._closing:
                    job()
                job = None  # a job holds the slab that it filled, and the next one may be far off


def _settle(future: Future[_Result], job: Callable[[], _Result]) -> None:
    try:
        future.set_result(job())
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
        future.set_exception(error)


def _nobody(_tensor: torch.Tensor) -> None:
    """Count nothing."""


def _views(slab: torch.Tensor, segment: Segment) -> dict[str, torch.Tensor]:
    """A segment's tensors where they lie in memory for it."""
    dtypes = {spec.dtype for spec in segment.tensors}
    wholes = {dtype: slab.view(dtype) for dtype in dtypes}
    return {spec.name: _view(wholes[spec.dtype], spec) for spec in segment.tensors}


def _view(whole: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    size = spec.dtype.itemsize
    return whole.narrow(0, spec.offset // size, spec.nbytes // size).view(spec.shape)
