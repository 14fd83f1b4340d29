"""Refine a machine by a run: what its calls took against what the footprint says they do. No torch.

A call takes `call_seconds`, `kernel_seconds` for each of its kernels, and its work: FLOPs by class
and memory traffic, each over a rate. Every kind of call gives one equation by the median of its
calls; the rates are fitted to the kinds that take a millisecond or more, the overheads to the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import attrs
import numpy as np

from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.machine.call_times import CallTimes
from wanflow.scheduler.machine.figures import OVERHEADS, Machine

_LEAST_SECONDS = 1e-3  # of a call that says something about rates
_FACTORS = (0.2, 5.0)  # a run may change a figure by so much, from what was probed
_TELLING_SHARE = 0.05  # of the time of some kind of call, below which nothing is learned
_PULL = 1e-3  # towards the common factor of all figures: decides what the calls leave open
_ROUNDS = 4
_SWEEPS = 200


@attrs.frozen
class _Equal:
    """Calls that do the same: what they took at the median, and what each figure predicts."""

    seconds: float
    count: int
    parts: Mapping[str, float]

    @property
    def is_overhead(self) -> bool:
        """Whether it says something about the overheads, and little about rates."""
        starting = sum(self.parts[name] for name in OVERHEADS)
        return self.seconds < _LEAST_SECONDS or starting * 2 > sum(self.parts.values())


@attrs.frozen
class _Equation:
    """What the parts should add up to; `weight` is the time of all calls of the kind."""

    parts: Mapping[str, float]
    seconds: float
    weight: float


def learn(
    machine: Machine, footprint: Footprint, times: CallTimes, *, device_times: bool = False
) -> Machine:
    """Return *machine* with what a finished run of *footprint* tells, marked as learned.

    On CUDA the spans of a trace say when kernels were started, not how long they ran; nothing is
    learned from them unless *device_times* says that they were taken on the device.
    """
    if machine.device == "cuda" and not device_times:
        return machine
    kinds = _kinds(machine, footprint, times)
    small = [k for k in kinds if k.is_overhead]
    large = [k for k in kinds if not k.is_overhead]
    rates = _telling(large, {name for k in large for name in k.parts if name not in OVERHEADS})
    overheads = _telling(small, set(OVERHEADS))
    factors: dict[str, float] = {}
    for _ in range(_ROUNDS):
        factors |= _fit(machine, large, rates, factors)
        factors |= _fit(machine, small, overheads, factors)
    figures = {name: _changed(machine, name, factor) for name, factor in factors.items()}
    return machine.with_figures(figures, "learned") if figures else machine


def _kinds(machine: Machine, footprint: Footprint, times: CallTimes) -> list[_Equal]:
    """Gather the calls that do the same, each with its share of what lies between."""
    seconds: dict[tuple[object, ...], list[float]] = {}
    parts: dict[tuple[object, ...], dict[str, float]] = {}
    for call, span in zip(footprint.calls, times.spans_of(footprint), strict=True):
        if span is None:
            continue
        dtype, cost = footprint.dtypes.get(call.stage, "float32"), call.cost
        work = (tuple(sorted(cost.flops.items())), cost.memory_bytes, cost.kernels)
        key = (call.stage, call.kind, *work)
        if key not in parts:
            parts[key] = machine.parts(cost.flops, cost.memory_bytes, dtype, cost.kernels)
        seconds.setdefault(key, []).append(span)
    return [_kind(spans, parts[key], times.gap_seconds) for key, spans in seconds.items()]


def _kind(spans: Sequence[float], parts: Mapping[str, float], gap: float) -> _Equal:
    telling = [s for s in spans if s >= _LEAST_SECONDS]
    if len(telling) * 2 < len(spans):
        telling = list(spans)
    return _Equal(median(telling) + gap, len(spans), parts)


def _telling(kinds: Sequence[_Equal], names: set[str]) -> list[str]:
    """Which figures make enough of some kind's predicted time."""

    def share(kind: _Equal, name: str) -> float:
        seconds = sum(kind.parts.values())
        return kind.parts.get(name, 0.0) / seconds if seconds else 0.0

    return sorted(n for n in names if any(share(k, n) >= _TELLING_SHARE for k in kinds))


def _fit(
    machine: Machine, kinds: Sequence[_Equal], names: Sequence[str], factors: Mapping[str, float]
) -> dict[str, float]:
    """Find a factor on the time of each figure in *names*; the others keep theirs in *factors*."""
    equations = []
    for kind in kinds:
        parts = {n: kind.parts[n] for n in names if kind.parts.get(n)}
        rest = sum(s * factors.get(n, 1.0) for n, s in kind.parts.items() if n not in parts)
        seconds = max(kind.seconds - rest, 0.2 * kind.seconds)
        if parts:
            equations.append(_Equation(parts, seconds, kind.count * kind.seconds))
    return _solve(equations, {n: _bounds(machine, n) for n in names}) if equations else {}


def _common(equations: Sequence[_Equation]) -> float:
    """The factor that half of the time is below of."""
    rows = sorted((e.seconds / sum(e.parts.values()), e.weight) for e in equations)
    half = sum(weight for _, weight in rows) / 2
    for factor, weight in rows:
        half -= weight
        if half <= 0:
            return factor
    return rows[-1][0]


def _solve(
    equations: Sequence[_Equation], bounds: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """Least squares of the relative errors inside the bounds; what is far off counts for less."""
    common = _common(equations)
    low, high = np.array(list(bounds.values())).T
    shares = np.array([[e.parts.get(n, 0.0) / e.seconds for n in bounds] for e in equations])
    times = np.array([e.weight for e in equations])
    factors = np.full(len(bounds), common).clip(low, high)
    for _ in range(_ROUNDS):
        weights = times / times.sum() / np.maximum(np.abs(shares @ factors - 1), 0.05)
        square = (shares.T * weights) @ shares + _PULL * np.eye(len(bounds))
        right = shares.T @ weights + _PULL * common
        for _ in range(_SWEEPS):  # a factor at a time: that finds the minimum inside bounds too
            for n in range(len(bounds)):
                better = factors[n] + (right[n] - square[n] @ factors) / square[n, n]
                factors[n] = min(max(better, low[n]), high[n])
    return dict(zip(bounds, factors.tolist(), strict=True))


def _bounds(machine: Machine, name: str) -> tuple[float, float]:
    """The factors on a figure's time that keep it within bounds of what it was probed as."""
    now = machine.figure(name)
    probed = machine.was.get(name, now)
    low, high = _FACTORS
    if name in OVERHEADS:
        return low * probed / now, high * probed / now
    return now / (high * probed), now / (low * probed)


def _changed(machine: Machine, name: str, factor: float) -> float:
    now = machine.figure(name)
    return now * factor if name in OVERHEADS else now / factor
