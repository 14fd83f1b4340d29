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
from typing import Protocol

import attrs
import torch

from wanflow.remarks import remark
from wanflow.scheduler.run.error_words import first_line
from wanflow.scheduler.run.malloc import prefer_large_pages, return_freed_memory


class Ticket(Protocol):
    """An upload on its way."""

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

    def settle(self) -> None:
        """Return once no copy is on its way; host buffers are not used after this."""


@attrs.frozen
class _Done:
    """A ticket for bytes that are there."""

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

    def settle(self) -> None:
        """Nothing is ever on its way."""


@attrs.frozen
class _CudaTicket:
    copied: torch.cuda.Event
    device: torch.device

    def wait(self) -> None:
        torch.cuda.current_stream(self.device).wait_event(self.copied)

    def host_is_free(self) -> None:
        self.copied.synchronize()


class CudaDevice:
    """A CUDA card with a stream for uploads beside the one that computes."""

    has_host_tier = True

    def __init__(self, device: torch.device) -> None:
        self.torch_device = device
        self._uploads = torch.cuda.Stream(device)
        self._downloads = torch.cuda.Stream(device)
        self._registered: list[torch.Tensor] = []

    def slab(self, nbytes: int) -> torch.Tensor:
        """Memory of the computing stream; uploads into it wait for what that stream did before."""
        slab = torch.empty(nbytes, dtype=torch.uint8, device=self.torch_device)
        slab.record_stream(self._uploads)
        return self.reuse(slab)

    def reuse(self, part: torch.Tensor) -> torch.Tensor:
        """Have uploads wait for the kernels launched so far, which may read what was there."""
        self._uploads.wait_stream(torch.cuda.current_stream(self.torch_device))
        return part

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        """Plain memory, pinned where it is.

        PyTorch's own pinned memory comes in powers of two, half as much again as is asked for on
        average. Where registering is refused, that is what there is; where that is refused too
        (`ulimit -l`), plain memory does, slower.
        """
        buffer = torch.empty(nbytes, dtype=torch.uint8)
        runtime = torch.cuda.cudart()
        if nbytes and int(runtime.cudaHostRegister(buffer.data_ptr(), nbytes, 0)) == 0:
            self._registered.append(buffer)
            return buffer
        try:
            return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            remark("host memory is not pinned", first_line(error))
            return buffer

    def upload(self, host: torch.Tensor, slab: torch.Tensor) -> Ticket:
        """One asynchronous copy on the upload stream."""
        with torch.cuda.stream(self._uploads):
            slab.copy_(host, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record(self._uploads)
        return _CudaTicket(copied, self.torch_device)

    def download(self, slab: torch.Tensor, host: torch.Tensor) -> Ticket:
        """One asynchronous copy on the download stream, after what computes now."""
        self._downloads.wait_stream(torch.cuda.current_stream(self.torch_device))
        with torch.cuda.stream(self._downloads):
            host.copy_(slab, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record(self._downloads)
        return _CudaTicket(copied, self.torch_device)

    def settle(self) -> None:
        """Wait for copies, and let go of the host's buffers: none is used after this."""
        self._uploads.synchronize()
        self._downloads.synchronize()
        runtime = torch.cuda.cudart()
        while self._registered:
            runtime.cudaHostUnregister(self._registered.pop().data_ptr())


@attrs.frozen
class _LinkTicket:
    copied: threading.Event

    def wait(self) -> None:
        self.copied.wait()

    def host_is_free(self) -> None:
        self.copied.wait()


class LinkedDevice:
    """A second pool of CPU memory behind a link: real copies, in order, at a settable speed.

    It has every tier that a card has and runs in a test suite. *rate* is in bytes per second;
    *fails* is asked before each slab is made and may raise what a full card raises.
    """

    has_host_tier = True
    torch_device = torch.device("cpu")

    def __init__(self, rate: float, fails: Callable[[int], None] | None = None) -> None:
        self._rate, self._fails = rate, fails
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="link", daemon=True)
        self._thread.start()

    def slab(self, nbytes: int) -> torch.Tensor:
        """Plain memory that counts as the device's, filled with NaN patterns."""
        if self._fails is not None:
            self._fails(nbytes)
        return torch.full((nbytes,), 0xFF, dtype=torch.uint8)  # 0xFF...: NaN in every float dtype

    def reuse(self, part: torch.Tensor) -> torch.Tensor:
        """Fill it with NaN patterns again: what is read too early or too late shows."""
        return part.fill_(0xFF)

    def host_buffer(self, nbytes: int) -> torch.Tensor:
        """Plain memory."""
        return torch.empty(nbytes, dtype=torch.uint8)

    def upload(self, host: torch.Tensor, slab: torch.Tensor) -> Ticket:
        """Queue a copy on the link."""
        return self._copy(host, slab)

    def download(self, slab: torch.Tensor, host: torch.Tensor) -> Ticket:
        """Queue a copy the other way."""
        return self._copy(slab, host)

    def _copy(self, source: torch.Tensor, target: torch.Tensor) -> Ticket:
        copied = threading.Event()

        def copy() -> None:
            time.sleep(source.numel() / self._rate)
            target.numpy()[:] = source.numpy()
            copied.set()

        self._jobs.put(copy)
        return _LinkTicket(copied)

    def settle(self) -> None:
        """Wait for the copies that are queued."""
        done = threading.Event()
        self._jobs.put(done.set)
        done.wait()

    def close(self) -> None:
        """End the link's thread after the copies that are queued."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def open_device(device: torch.device) -> Device:
    """Return the device that runs kernels on *device*."""
    if device.type == "cuda":
        return CudaDevice(device)
    return_freed_memory()
    return CpuDevice()
