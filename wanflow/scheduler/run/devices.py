"""Where weights arrive: a CPU's RAM, a CUDA card, or a stand-in for a card with a link of its own.

A device makes slabs and starts uploads into them; an upload gives a `Ticket` to wait for. On a CPU
the file is read straight into the slab, so there is nothing to upload. Uploads are ordered and wait
on events, never on the whole device.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import attrs
import torch

from wanflow.heap import prefer_large_pages, settle_heap
from wanflow.remarks import remark
from wanflow.scheduler.run.cuda_clock import CudaClock, CudaMark
from wanflow.scheduler.run.marks import CopySpan, HostMark, StreamMark


class Ticket(Protocol):
    """An upload on its way."""

    @property
    def copy(self) -> CopySpan | None:
        """When it is on its way; None for bytes that were there."""

    def wait(self) -> None:
        """Return once the kernels that are launched after this may use the bytes."""

    def host_is_free(self) -> None:
        """Return once the host buffer it reads from may be written again."""


class Device(Protocol):
    """A place that holds slabs and runs kernels."""

    @property
    def torch_device(self) -> torch.device:
        """Where tensors are made."""

    @property
    def has_host_tier(self) -> bool:
        """Whether bytes pass through host memory on their way."""

    def slab(self, nbytes: int) -> torch.Tensor:
        """Make an uninitialised uint8 tensor on the device."""

    def reuse(self, part: torch.Tensor) -> torch.Tensor:
        """Give *part* of a slab, which was used before, ready to be uploaded into."""

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        """Make a uint8 tensor on the host from which uploads are fast."""

    def upload(self, host: torch.Tensor, slab: torch.Tensor) -> Ticket:
        """Start copying *host* into *slab*; may be called from the reader's thread."""

    def download(self, slab: torch.Tensor, host: torch.Tensor) -> Ticket:
        """Start copying *slab*, as the kernels launched so far leave it, into *host*.

        The ticket's `wait` is for kernels that overwrite the slab, `host_is_free` for who reads
        the host's copy.
        """

    def mark(self) -> StreamMark | None:
        """Mark what was launched so far; None where a call has ended when it returns."""

    def align(self) -> None:
        """Compare the device's clock with the host's; it computes nothing at the time."""

    def settle(self) -> None:
        """Return once no copy is on its way; host buffers are not used after this."""


@attrs.frozen
class _Done:
    """A ticket for bytes that are there."""

    copy: None = None

    def wait(self) -> None:
        """Nothing is on its way."""

    def host_is_free(self) -> None:
        """Nothing reads."""


DONE: Ticket = _Done()


class CpuDevice:
    """The RAM itself: slabs are filled from the file, there is no host tier."""

    has_host_tier = False
    torch_device = torch.device("cpu")

    def slab(self, nbytes: int) -> torch.Tensor:
        """Plain memory, in large pages where there are any: it is filled from the file at once."""
        slab = torch.empty(nbytes, dtype=torch.uint8)
        prefer_large_pages(slab.data_ptr(), nbytes)
        return slab

    def reuse(self, part: torch.Tensor) -> torch.Tensor:
        """Who used it has ended."""
        return part

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        """Plain memory too; nothing on a CPU asks for it."""
        return self.slab(nbytes)

    def upload(self, host: torch.Tensor, slab: torch.Tensor) -> Ticket:
        """Copy at once."""
        slab.copy_(host)
        return DONE

    def download(self, slab: torch.Tensor, host: torch.Tensor) -> Ticket:
        """Copy at once."""
        host.copy_(slab)
        return DONE

    def mark(self) -> None:
        """A call has ended when it returns."""

    def align(self) -> None:
        """There is one clock."""

    def settle(self) -> None:
        """Nothing is ever on its way."""


@attrs.frozen
class _CudaTicket:
    copied: CudaMark
    copy: CopySpan
    device: torch.device

    def wait(self) -> None:
        torch.cuda.current_stream(self.device).wait_event(self.copied.event)

    def host_is_free(self) -> None:
        self.copied.wait()


class CudaDevice:
    """A CUDA card with a stream for uploads beside the one that computes.

    Slabs are memory of the computing stream, and so is whatever the allocator gives of them later.
    No `record_stream` is needed for what other streams do with them: an upload waits for what
    computed before the slab was there, computing waits for the upload (`Ticket.wait`) before the
    slab can be let go, and a slab whose upload nobody waited for is let go after `settle`. It would
    hold each slab back until all that is queued on the upload stream is over, three loads ahead.
    """

    has_host_tier = True

    def __init__(self, device: torch.device) -> None:
        self.torch_device = device
        self._uploads = torch.cuda.Stream(device)
        self._downloads = torch.cuda.Stream(device)
        self._locked: list[torch.Tensor] = []
        self._clock = CudaClock(device)

    def slab(self, nbytes: int) -> torch.Tensor:
        """Memory of the computing stream; uploads into it wait for what that stream did before."""
        return self.reuse(torch.empty(nbytes, dtype=torch.uint8, device=self.torch_device))

    def reuse(self, part: torch.Tensor) -> torch.Tensor:
        """Have uploads wait for the kernels launched so far, which may read what was there."""
        self._uploads.wait_stream(torch.cuda.current_stream(self.torch_device))
        return part

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        """Page-locked memory, plain where the driver refuses: slower. May be called by any thread.

        PyTorch's own pinned memory comes in powers of two, half as much again as is asked for on
        average, and asks the same driver.
        """
        buffer = torch.empty(nbytes, dtype=torch.uint8)
        if not nbytes:
            return buffer
        refusal = _lock(buffer, self.torch_device)
        if refusal:
            remark("host memory is not pinned, so uploads are slower", refusal)
        else:
            self._locked.append(buffer)
        return buffer

    def upload(self, host: torch.Tensor, slab: torch.Tensor) -> Ticket:
        """One asynchronous copy on the upload stream."""
        return self._copy(host, slab, self._uploads)

    def download(self, slab: torch.Tensor, host: torch.Tensor) -> Ticket:
        """One asynchronous copy on the download stream, after what computes now."""
        self._downloads.wait_stream(torch.cuda.current_stream(self.torch_device))
        return self._copy(slab, host, self._downloads)

    def _copy(self, source: torch.Tensor, target: torch.Tensor, on: torch.cuda.Stream) -> Ticket:
        with torch.cuda.stream(on):
            began = self._clock.mark(on)
            target.copy_(source, non_blocking=True)
            copied = self._clock.mark(on)
        return _CudaTicket(copied, CopySpan(began, copied), self.torch_device)

    def mark(self) -> StreamMark:
        """An event behind the kernels launched so far."""
        return self._clock.mark(torch.cuda.current_stream(self.torch_device))

    def align(self) -> None:
        """An event by itself, beside the host's clock."""
        self._clock.align()

    def settle(self) -> None:
        """Wait for copies, and unlock the host's buffers all the same: none is used after this."""
        try:
            self._uploads.synchronize()
            self._downloads.synchronize()
        finally:
            while self._locked:
                _unlock(self._locked.pop(), self.torch_device)


def refused_pinning(device: torch.device, nbytes: int) -> str:
    """Page-lock so much memory of the host and let it go; say why that is refused, if it is."""
    if not nbytes:
        return ""
    buffer = torch.empty(nbytes, dtype=torch.uint8)
    refusal = _lock(buffer, device)
    if not refusal:
        _unlock(buffer, device)
    return refusal


def _lock(buffer: torch.Tensor, device: torch.device) -> str:
    runtime = torch.cuda.cudart()
    with torch.cuda.device(device):  # it is a thread's own
        code = runtime.cudaHostRegister(buffer.data_ptr(), buffer.numel(), 0)
        if int(code) == 0:
            return ""
        _forget_error(device)
    return f"cudaHostRegister of {buffer.numel()} bytes: {runtime.cudaGetErrorString(code)}"


def _unlock(buffer: torch.Tensor, device: torch.device) -> None:
    with torch.cuda.device(device):
        if int(torch.cuda.cudart().cudaHostUnregister(buffer.data_ptr())) != 0:
            _forget_error(device)


def _forget_error(device: torch.device) -> None:
    """Take the error that a refusal leaves behind: the next kernel of this thread raises it.

    PyTorch binds these calls without taking it (C10_CUDA_ERROR_HANDLED), and no cudaGetLastError.
    """
    with suppress(RuntimeError):
        torch.zeros(1, device=device)


@attrs.frozen
class _LinkTicket:
    copied: HostMark
    copy: CopySpan

    def wait(self) -> None:
        self.copied.wait()

    def host_is_free(self) -> None:
        self.copied.wait()


class LinkedDevice:
    """A second pool of CPU memory behind a link: real copies, in order, at a settable speed.

    It has every tier that a card has and runs in a test suite. *rate* is in bytes per second;
    *fails* is asked before each `slab`, `host_buffer`, `upload` and `download`, and may raise what
    a full card raises.
    """

    has_host_tier = True
    torch_device = torch.device("cpu")

    def __init__(self, rate: float, fails: Callable[[str], None] = lambda _what: None) -> None:
        self._rate, self._fails = rate, fails
        self._jobs: queue.SimpleQueue[Callable[[], HostMark] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="link", daemon=True)
        self._thread.start()

    def slab(self, nbytes: int) -> torch.Tensor:
        """Plain memory that counts as the device's, filled with NaN patterns."""
        self._fails("slab")
        return torch.full((nbytes,), 0xFF, dtype=torch.uint8)  # 0xFF...: NaN in every float dtype

    def reuse(self, part: torch.Tensor) -> torch.Tensor:
        """Fill it with NaN patterns again: what is read too early or too late shows."""
        return part.fill_(0xFF)

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        """Plain memory."""
        self._fails("host_buffer")
        return torch.empty(nbytes, dtype=torch.uint8)

    def upload(self, host: torch.Tensor, slab: torch.Tensor) -> Ticket:
        """Queue a copy on the link."""
        self._fails("upload")
        return self._copy(host, slab)

    def download(self, slab: torch.Tensor, host: torch.Tensor) -> Ticket:
        """Queue a copy the other way."""
        self._fails("download")
        return self._copy(slab, host)

    def _copy(self, source: torch.Tensor, target: torch.Tensor) -> Ticket:
        began, copied = HostMark(), HostMark()

        def copy() -> HostMark:
            began.set()
            time.sleep(source.numel() / self._rate)
            target.numpy()[:] = source.numpy()
            return copied

        self._jobs.put(copy)
        return _LinkTicket(copied, CopySpan(began, copied))

    def mark(self) -> StreamMark:
        """A call has ended when it returns; its copies have times of their own."""
        return HostMark.now()

    def align(self) -> None:
        """There is one clock."""

    def settle(self) -> None:
        """Wait for the copies that are queued."""
        done = HostMark()
        self._jobs.put(lambda: done)
        done.wait()

    def close(self) -> None:
        """End the link's thread after the copies that are queued."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            done = job()
            job = None  # a job holds the memory at both ends, which may go once it is said
            done.set()


def open_device(device: torch.device) -> Device:
    """Return the device that runs kernels on *device*."""
    if device.type == "cuda":
        return CudaDevice(device)
    settle_heap()
    return CpuDevice()
