"""Every way through a stage, measured alike: wanflow's at each setting of its knobs, the peers'.

What comes out is copied to the host by NumPy, where no meter of PyTorch's sees it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import median
from typing import Any

import attrs
import torch

from benchmarks.lib.alone import Alone
from benchmarks.lib.child import allocator
from benchmarks.lib.driver import Driver
from benchmarks.lib.peers import Peer, Took
from benchmarks.lib.report import error, spread
from wanflow.scheduler.plan.schedule import Plan
from wanflow.scheduler.run.meter import meter_for

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
_LEVELS = 255


@attrs.frozen
class Result:
    """What came out of a run, on the host, and its figures."""

    made: torch.Tensor
    peak_bytes: int
    peak_source: str
    seconds: float


@attrs.frozen
class Way:
    """A way to run a stage: `facts` are those of its rows that no run changes."""

    facts: dict[str, Any]
    run: Callable[[Took], Result]

    @property
    def name(self) -> str:
        """What it is called among all ways of all cases."""
        return f"{self.facts['case']} {self.facts.get('budget', self.facts['way'])}"


@attrs.define
class Figures:
    """What the rounds of one way have shown so far."""

    way: Way
    seconds: list[float] = attrs.field(factory=list)
    step_seconds: list[float] = attrs.field(factory=list)
    peaks: list[dict[str, Any]] = attrs.field(factory=list)
    compared: list[dict[str, Any]] = attrs.field(factory=list)

    def row(self, plain: Figures) -> dict[str, Any]:
        """All of it beside the plain way's; of peaks and differences the largest."""
        found = {
            **self.way.facts, **max(self.peaks, key=lambda p: p["peak_bytes"]),
            **max(self.compared, key=lambda c: c["difference"]),
            "identical": all(each["identical"] for each in self.compared),
            "rounds": len(self.seconds), "seconds": spread(self.seconds),
            "share": _shares(self.seconds, plain.seconds),
        }  # fmt: skip
        if self.step_seconds:
            found["step_seconds"] = spread(self.step_seconds)
            found["step_share"] = _shares(self.step_seconds, plain.step_seconds)
        if "predicted_peak_bytes" in found:
            found["peak_error"] = error(found["predicted_peak_bytes"], found["peak_bytes"])
        return found


def _shares(ours: list[float], theirs: list[float]) -> dict[str, float]:
    return spread([a / b for a, b in zip(ours, theirs, strict=False)])


def peers(alone: Alone, peer: Peer) -> Iterator[Way]:
    """Diffusers as it comes first; its clock starts with the weights in host memory."""
    for name in peer.ways:

        def run(took: Took, name: str = name) -> Result:
            with meter_for(alone.place.device) as meter:
                pipe = peer.pipeline()
                began = time.perf_counter()
                made = peer.run(pipe, name, took)
                seconds = time.perf_counter() - began
                meter.collect()
            return Result(made, meter.peak_bytes, meter.source, seconds)

        yield Way({"case": alone.case.name, "way": name}, run)


def ours(alone: Alone) -> Iterator[Way]:
    """Each setting, all resident and in the least that it can do with."""
    for setting in alone.settings():
        footprint = alone.footprint(setting)
        most = alone.plan(footprint, None)
        for budget, nbytes in (("resident", most.budget_bytes), ("minimum", most.minimum_bytes)):
            yield _ours(alone, setting, budget, alone.plan(footprint, nbytes))


def _ours(alone: Alone, setting: dict[str, str], budget: str, made: Plan) -> Way:
    knobs = " ".join(f"{name}={value}" for name, value in setting.items())
    (stage,) = (each for each in made.stages if each.stage == alone.case.stage)
    facts = {
        "case": f"{alone.case.name} {knobs}".strip(), "way": "wanflow",
        "budget": budget, "knobs": setting, "rounding": alone.rounding(setting),
        "budget_bytes": made.budget_bytes, "predicted_peak_bytes": made.predicted_peak_bytes,
        "predicted_seconds": made.predicted_seconds, "weights_bytes": stage.weights_bytes,
        "resident_weights_bytes": stage.resident_weights_bytes,
        "streamed_bytes": stage.streamed_bytes, "spilled_bytes": stage.spilled_bytes,
    }  # fmt: skip

    def run(took: Took) -> Result:
        kept: list[torch.Tensor] = []

        def watch(_stage: str, name: str, value: torch.Tensor) -> None:
            if alone.is_result(name):
                kept.append(on_host(value))
                took()

        ran = alone.run(made, watch)
        result = torch.cat(kept) if alone.is_stream else kept[-1]
        return Result(result, ran.outcome.peak_bytes, ran.outcome.peak_source, ran.seconds)

    return Way(facts, run)


def on_host(value: torch.Tensor) -> torch.Tensor:
    """Copy a tensor of any strides, bit by bit."""
    bits = value.cpu().view(_BITS[value.element_size()]).numpy().copy()
    return torch.from_numpy(bits).view(value.dtype)


def make_room() -> None:
    """Let go of what earlier runs have left; CUDA's allocator too, where there is one."""
    gc.collect()
    torch.cuda.empty_cache()


def measure(figures: Figures, driver: Driver, device: str, expected: torch.Tensor | None) -> Result:
    """Run a way once more from an emptied allocator, and note what it showed."""
    make_room()
    driver.forget()
    ends: list[float] = []
    result = figures.way.run(lambda: ends.append(time.perf_counter()))
    steps = [after - before for before, after in pairwise(ends)]
    figures.seconds.append(result.seconds)
    figures.step_seconds += [median(steps)] if figures.way.facts.get("steps", 1) > 1 else []
    figures.peaks.append({
        "peak_bytes": result.peak_bytes, "peak_source": result.peak_source,
        "driver_peak_bytes": driver.peak_bytes, "driver_source": driver.source,
        **allocator(device),
    })  # fmt: skip
    figures.compared.append(compared(result.made, result.made if expected is None else expected))
    return result


def compared(made: torch.Tensor, expected: torch.Tensor) -> dict[str, Any]:
    """The largest difference, as a share of the largest number; levels count as their shares."""
    whole = made.dtype == torch.uint8
    mine = made.float() / _LEVELS if whole else made.float()
    theirs = expected.float()
    return {
        "difference": float((mine - theirs).abs().max() / theirs.abs().max()),
        "largest": float(theirs.abs().max()), "in_levels": whole,
        "identical": made.dtype == expected.dtype and torch.equal(made, expected),
        "finite": bool(mine.isfinite().all()),
    }  # fmt: skip
