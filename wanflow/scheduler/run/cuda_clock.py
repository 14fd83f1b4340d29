"""When a card came to a mark: by its own clock, said by the host's.

CUDA's events tell the time between two of them. The host's clock is compared with one event, and
again at the end of each step, as the two drift.
"""

from __future__ import annotations

import time

import attrs
import torch

_TRIES = 3  # the tightest of so many comparisons is taken: another thread may come between


@attrs.frozen
class _Reference:
    """An event, and when it happened by the host's clock."""

    event: torch.cuda.Event
    at_ns: int


@attrs.frozen
class CudaMark:
    """An event of a stream. Its time is counted from what was the reference when it was set.

    So times are sums of one short difference, which CUDA gives in single precision, and no
    difference is negative.
    """

    event: torch.cuda.Event
    reference: _Reference

    @property
    def passed(self) -> bool:
        """Ask without waiting."""
        return bool(self.event.query())

    @property
    def at_ns(self) -> int:
        """Count from the reference."""
        elapsed_ms: float = self.reference.event.elapsed_time(self.event)
        return self.reference.at_ns + round(elapsed_ms * 1e6)

    def wait(self) -> None:
        """Wait without spinning."""
        self.event.synchronize()


class CudaClock:
    """Sets marks on the streams of a card, and says their times by the host's clock."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.align()

    def align(self) -> None:
        """Compare the clocks anew; returns at once where the computing stream has nothing to do."""
        stream = torch.cuda.current_stream(self._device)
        tightest = None
        for _ in range(_TRIES):
            event = torch.cuda.Event(enable_timing=True)
            began = time.perf_counter_ns()
            event.record(stream)
            event.synchronize()
            took = time.perf_counter_ns() - began
            if tightest is None or took < tightest:
                tightest, self._reference = took, _Reference(event, began + took // 2)

    def mark(self, stream: torch.cuda.Stream) -> CudaMark:
        """Mark what *stream* was given so far."""
        event = torch.cuda.Event(enable_timing=True, blocking=True)
        event.record(stream)
        return CudaMark(event, self._reference)
