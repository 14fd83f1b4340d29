"""Run a graph from a test and get its frames before they are encoded, and what it allocated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from tests.measure import peak_allocated_bytes
from wanflow.session import Request, plan, run

TINY = Path(__file__).resolve().parent.parent / "wanflow" / "bundled" / "wan-tiny"


@attrs.frozen
class Watched:
    """A finished run: what run.json holds, and the frames `[n, 3, H, W]` in [0, 1]."""

    report: dict[str, object]
    frames: torch.Tensor


class Frames:
    """A watch that keeps each chunk of frames as it is made, in memory that is none of torch's."""

    def __init__(self) -> None:
        self._chunks: list[NDArray[Any]] = []
        self._dtype = torch.float32

    def __call__(self, _stage: str, name: str, tensor: torch.Tensor) -> None:
        """See a value."""
        if name == "decode.frames":
            self._dtype = tensor.dtype
            known = tensor.view(torch.int16) if tensor.dtype is torch.bfloat16 else tensor
            self._chunks.append(known.cpu().numpy().copy())

    def all(self) -> torch.Tensor:
        """All frames in one."""
        return torch.from_numpy(np.concatenate(self._chunks)).view(self._dtype)


def run_watched(request: Request, out: Path) -> Watched:
    """Run *request* into *out*, keeping its frames."""
    frames = Frames()
    report = run(request, out=out, force=True, watch=frames)
    return Watched(report, frames.all())


@attrs.frozen
class Measured(Watched):
    """A run that torch.profiler watched: the most bytes that were allocated at once."""

    peak_bytes: int

    @property
    def predicted_bytes(self) -> int:
        """The peak that was planned."""
        predicted = self.report["predicted_peak_bytes"]
        assert isinstance(predicted, int)
        return predicted

    def assert_within(self, budget_bytes: int) -> None:
        """The measured peak is inside the budget, and within 3 % of the prediction."""
        assert self.peak_bytes <= budget_bytes
        assert 0.97 * self.predicted_bytes <= self.peak_bytes <= 1.03 * self.predicted_bytes


class MeasuredRuns:
    """Runs under torch.profiler, each request once: several tests look at the same run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._done: dict[str, Measured] = {}

    def __call__(self, request: Request) -> Measured:
        """Run *request*, or give what came of it before."""
        key = repr(request)
        if key not in self._done:
            reports: list[dict[str, object]] = []
            out, frames = self._folder / str(len(self._done)), Frames()
            peak = peak_allocated_bytes(lambda: reports.append(run(request, out=out, watch=frames)))
            self._done[key] = Measured(reports[0], frames.all(), peak)
        return self._done[key]


def budgets(request: Request) -> tuple[int, int, int]:
    """The resident peak, halfway to the minimum, and the minimum, in bytes."""
    report = plan(request).report
    most, least = report["resident_bytes"], report["minimum_bytes"]
    assert isinstance(most, int)
    assert isinstance(least, int)
    return most, (most + least) // 2, least
