"""The emulated device while it is switched on: what it answers, refuses and counts."""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from tests.cuda_emulator import streams
from tests.cuda_emulator.card import Card
from tests.cuda_emulator.clocks import Clocks
from tests.cuda_emulator.library import DEFERRED, GO_ON, Library, Range

# cudaError: what cudaHostRegister and cudaHostUnregister may answer.
_ERRORS = {
    0: "no error",
    2: "out of memory",
    700: "an illegal memory access was encountered",
    712: "part or all of the requested memory range is already mapped",
    713: "pointer does not correspond to a registered memory region",
    801: "operation not supported",
}
_CODES = {words: code for code, words in _ERRORS.items()}
# Operations that bring a number to the host: the host waits for the stream.
_WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero")


class Emulator:
    """The device while it is switched on: what was asked of it, what it refuses, what raced."""

    def __init__(self, path: Path, card: Card) -> None:
        self.card, self.faults = card, card.faults
        self.calls: Counter[str] = Counter()
        self.clocks = Clocks()
        # Asked before an allocation, launch, upload, download, copy, registering, pinned or host
        # memory, with the bytes where it knows them; the error that it gives is raised there.
        self.fails: Callable[[str, int], BaseException | None] = lambda _what, _nbytes: None
        self.contexts: set[int] = set()
        self.with_kernels: set[int] = set()
        self.registered: dict[int, int] = {}
        self.fractions: dict[int, float] = {}
        self.lost: str | None = None  # what every call raises once the context is lost
        self._said = threading.local()  # an error of the runtime that nobody has taken yet
        self._lock = threading.RLock()
        self._library = Library(path, self)

    def start(self) -> None:
        """Switch the device on."""
        card = self.card
        self._library.start(card.count, card.total_bytes)
        count = card.count if card.driver else 0
        self._library.driver(card.driver, card.driver_cuda, card.name, count, card.capability)
        for device in range(card.count):
            self._library.outside(device, card.used_bytes)
        streams.start(self.clocks, self.current_device, self.check)

    def stop(self) -> None:
        """Switch it off."""
        left = streams.forget()
        self._library.stop()
        if left and self.lost is None:
            msg = f"{left} copies were never waited for"
            raise AssertionError(msg)

    # --- what the library asks: library.Listener ---

    def allocating(self, device: int, nbytes: int) -> int:
        """Refuse what the driver refuses, and what a test wants."""
        self._use(device)
        expandable = _expandable()
        self._library.expandable(is_on=expandable)
        if expandable and self.faults.refuses_expandable_segments:
            return self._library.fail(RuntimeError("CUDA driver error: operation not supported"))
        return self._answer("allocation", nbytes)

    def handed_out(self, device: int, address: int, nbytes: int) -> None:
        """What this thread launches may write to it from now on."""
        stream = streams.current_stream(device)
        self.clocks.launch(stream.actor, "allocation", ((address, nbytes, True),))

    def launching(self, name: str, device: int, ranges: Sequence[Range]) -> int:
        """Say which bytes an operation reads and writes, behind what is queued on its stream."""
        self._use(device, kernels=True)
        stream = streams.current_stream(device)
        touched = [(r.address, r.nbytes, bool(r.is_written)) for r in ranges]
        self.clocks.launch(stream.actor, name, touched)
        stream.run_to(stream.count)
        if name in _WAITING:
            self.calls["waits"] += 1
            stream.reached_by_thread()
        return self._answer("launch")

    def copying(self, target: Range, source: Range, *, plain: bool, non_blocking: bool) -> int:
        """Copy now or, on a stream of its own, as late as its order allows."""
        self._use(max(target.device, source.device))
        what = _direction(target, source)
        if answer := self._answer(what, target.nbytes):
            return answer
        stream = streams.current_stream(max(target.device, source.device))
        touched = [(source.address, source.nbytes, False), (target.address, target.nbytes, True)]
        self.clocks.launch(stream.actor, what, touched)
        self._count_pageable(target, source, non_blocking=non_blocking)
        if not non_blocking and min(target.device, source.device) < 0:
            stream.reached_by_thread()
        if non_blocking and plain and self.card.defers and not stream.is_default:
            to, of, nbytes = target.address, source.address, target.nbytes
            stream.add(lambda: ctypes.memmove(to, of, nbytes) and None)
            return DEFERRED
        stream.run_to(stream.count)
        return GO_ON

    def _count_pageable(self, target: Range, source: Range, *, non_blocking: bool) -> None:
        host = source if source.device < 0 else target
        if non_blocking and host.device < 0 and not self.is_registered(host.address, host.nbytes):
            self.calls["pageable"] += 1

    def _answer(self, what: str, nbytes: int = 0) -> int:
        self.calls[what] += 1
        error = self._taken() or self.fails(what, nbytes)
        return GO_ON if error is None else self._library.fail(error)

    def _taken(self) -> BaseException | None:
        """Give the error that is pending in this thread, or for ever."""
        if self.lost is not None:
            return torch.AcceleratorError(self.lost)
        error, self._said.error = self.pending, None
        return error

    @property
    def pending(self) -> BaseException | None:
        """The error that this thread's next allocation or launch raises."""
        error: BaseException | None = getattr(self._said, "error", None)
        return error

    def check(self) -> None:
        """Raise where the context is lost: every call does."""
        if self.lost is not None:
            raise torch.AcceleratorError(self.lost)

    # --- what tests and the stand-ins ask ---

    @property
    def is_usable(self) -> bool:
        """Whether PyTorch can use the card."""
        return self.card.unusable is None

    def counters(self, device: Any = None) -> dict[str, int]:
        """Read the allocator's counters: bytes now and at most, retries, failures."""
        return self._library.counters(streams.index_of(device))

    def current_device(self) -> int:
        """This thread's."""
        return self._library.current_device()

    def set_device(self, device: int) -> int:
        """Make *device* this thread's, and tell which was."""
        return self._library.set_device(device)

    def reset_peaks(self, device: Any = None) -> None:
        """Count peaks anew."""
        self._library.reset_peaks(streams.index_of(device))

    def empty_cache(self) -> None:
        """Give free blocks back."""
        self.check()
        self._library.empty_cache()

    def _use(self, device: int, *, kernels: bool = False) -> None:
        """Have a context on *device*, a larger one once kernels ran."""
        card = self.card
        if device in (self.with_kernels if kernels else self.contexts):
            return
        self.contexts.add(device)
        if kernels:
            self.with_kernels.add(device)
        self._library.outside(device, card.used_bytes + self.context_bytes(device))

    def context_bytes(self, device: int) -> int:
        """What this process's context takes."""
        card = self.card
        grown = card.kernels_bytes * (device in self.with_kernels)
        return card.context_bytes + grown if device in self.contexts else 0

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Free and total bytes, as the driver tells them; who asks has a context from then on."""
        index = streams.index_of(device)
        self.calls["mem_get_info"] += 1
        self._use(index)
        used = self.card.used_bytes + self.context_bytes(index)
        used += self.counters(index)["reserved"]
        return max(self.card.total_bytes - used, 0), self.card.total_bytes

    def others_take(self, nbytes: int, device: int = 0) -> None:
        """Let other programs have so much more of the card from now on."""
        self.card = attrs.evolve(self.card, used_bytes=self.card.used_bytes + nbytes)
        self._library.outside(device, self.card.used_bytes + self.context_bytes(device))

    def set_fraction(self, fraction: float, device: Any = None) -> None:
        """Cap the allocator, as `torch.cuda.set_per_process_memory_fraction`."""
        if not isinstance(fraction, float):
            raise TypeError("Invalid type for fraction argument, must be `float`")
        if not 0 <= fraction <= 1:
            raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
        index = streams.index_of(device)
        self.fractions[index] = fraction
        self._library.cap(index, int(fraction * self.card.total_bytes))

    def is_registered(self, address: int, nbytes: int) -> bool:
        """Whether host memory is page-locked."""
        return any(
            start <= address and address + nbytes <= start + size
            for start, size in list(self.registered.items())
        )

    def pinned(self, address: int, nbytes: int) -> None:
        """Note memory that was asked for pinned, or raise what is raised for it."""
        self.calls["pin_memory"] += 1
        if self.faults.refuses_pinned:
            raise torch.AcceleratorError("CUDA error: out of memory")
        if error := self.fails("pinned", nbytes):
            raise error
        self.registered[address] = nbytes

    # --- the runtime's functions, under their names: `torch.cuda.cudart()` ---

    def cudaHostRegister(self, address: int, nbytes: int, _flags: int) -> int:  # noqa: N802
        """Page-lock host memory. A refusal stays pending, as PyTorch's binding leaves it."""
        self.calls["cudaHostRegister"] += 1
        if self.lost is not None:
            return 700
        self._use(self.current_device())
        with self._lock:
            overlaps = any(
                address < start + size and start < address + nbytes
                for start, size in self.registered.items()
            )
            if (
                not overlaps
                and not self.faults.refuses_registering
                and not self.fails("registering", nbytes)
            ):
                self.registered[address] = nbytes
                return 0
        code = 712 if overlaps else 801 if self.faults.refuses_registering else 2
        return self._leave(code)

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802
        """Let go of it."""
        self.calls["cudaHostUnregister"] += 1
        if self.lost is not None:  # told by its code, as the binding checks nothing
            return 700
        if self.registered.pop(address, None) is not None:
            return 0
        return self._leave(713)

    def cudaGetErrorString(self, code: int) -> str:  # noqa: N802
        """Say what a code means."""
        return _ERRORS[int(code)]

    def cudaMemGetInfo(self, device: int) -> tuple[int, int]:  # noqa: N802
        """Free and total bytes."""
        return self.mem_get_info(device)

    def _leave(self, code: int) -> int:
        """Leave an error for the next call of this thread that looks: an allocation, a launch."""
        self._said.error = torch.AcceleratorError(f"CUDA error: {_ERRORS[code]}")
        return code


def _direction(target: Range, source: Range) -> str:
    if source.device < 0:
        return "upload"
    return "download" if target.device < 0 else "copy"


def _expandable() -> bool:
    return "expandable_segments:True" in torch._C._accelerator_getAllocatorSettings()
