"""Refine a machine by a run: what its calls took against what the footprint says they do. No torch.

A call takes `call_seconds`, `kernel_seconds` for each of its kernels, and its work: FLOPs by class
and memory traffic, each over a rate. Every kind of call gives one equation by the median of its
calls. Small calls, of which starting and the rates of small calls make most, teach these and
nothing else, so that a tiny run says nothing of a large one; the others teach the rates.
On a card the host starts calls while others work: a kind tells of the slower of the two alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import attrs
import numpy as np

from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.machine.call_times import CallTimes, usual
from wanflow.scheduler.machine.figures import OVERHEADS, SMALL, Machine
from wanflow.scheduler.machine.file_work import written_at

_LEAST_SECONDS = 1e-3  # of a call that says something about rates
_FACTORS = (0.2, 5.0)  # a run may change a figure by so much, from what was probed
_STARTING_FACTORS = (0.1, 50.0)  # what starts over and over alone starts far sooner than in a run
_SMALL_FACTORS = (0.02, 2.0)  # kernels by themselves are hardly slower, in some shapes much faster
_TELLING_SHARE = 0.05  # of the time of some kind of call, below which nothing is learned
_PULL = 1e-3  # towards the common factor of all figures: decides what the calls leave open
_ROUNDS = 4
_SWEEPS = 200
_OF_SMALL = {*OVERHEADS, *SMALL}


@attrs.frozen
class _CallKind:
    """Calls that do the same: what they took at the median, and what each figure predicts.

    `usual_seconds` is what one of them adds to a run.
    """

    seconds: float
    usual_seconds: float
    count: int
    parts: Mapping[str, float]

    @property
    def is_small(self) -> bool:
        """Whether it says something about starting and small rates, and little about the others."""
        small = sum(self.parts.get(name, 0.0) for name in _OF_SMALL)
        return self.seconds < _LEAST_SECONDS or small * 2 > sum(self.parts.values())


@attrs.frozen
class _Equation:
    """What the parts should add up to; `weight` is the time of all calls of the kind."""

    parts: Mapping[str, float]
    seconds: float
    weight: float


def learn(machine: Machine, footprint: Footprint, times: CallTimes) -> Machine:
    """Return *machine* with what a finished run of *footprint* tells, marked as learned."""
    kinds = _call_kinds(machine, footprint, times)
    factors: dict[str, float] = {}
    small = [k for k in kinds if k.is_small]
    large = [k for k in kinds if not k.is_small]
    others = {name for kind in kinds for name in kind.parts} - _OF_SMALL
    groups = ((large, _telling(large, others)), (small, _telling(small, _OF_SMALL)))
    for _ in range(_ROUNDS):
        for group, names in groups:
            factors |= _fit(machine, group, names, factors)
    for group, names in groups:
        factors |= _balanced(machine, group, names, factors)
    figures = {name: _changed(machine, name, factor) for name, factor in factors.items()}
    return machine.with_figures(figures, "learned") if figures else machine


def _call_kinds(machine: Machine, footprint: Footprint, times: CallTimes) -> list[_CallKind]:
    """Gather the calls that do the same, each with its share of what lies between."""
    on_card = machine.device == "cuda"
    seconds: dict[tuple[object, ...], list[tuple[float, float]]] = {}
    parts: dict[tuple[object, ...], dict[str, float]] = {}
    written = written_at(footprint)
    for index, span in enumerate(times.spans_of(footprint, runs_ahead=on_card)):
        if span is None or index in written:
            continue
        call = footprint.calls[index]
        dtype, cost = footprint.dtypes.get(call.stage, "float32"), call.cost
        work = (tuple(sorted(cost.flops.items())), cost.memory_bytes, cost.kernels)
        key = (call.stage, call.kind, *work)
        if key not in parts:
            by_figure = machine.parts(cost.flops, cost.memory_bytes, dtype, cost.kernels)
            parts[key] = _slower(by_figure) if on_card else by_figure
        seconds.setdefault(key, []).append(span)
    return [_call_kind(took, parts[key]) for key, took in seconds.items()]


def _slower(parts: Mapping[str, float]) -> dict[str, float]:
    """Leave what a card takes for a call: to work, or to be started."""
    starting = {name: parts[name] for name in OVERHEADS}
    working = {name: seconds for name, seconds in parts.items() if name not in OVERHEADS}
    return max(working, starting, key=lambda side: sum(side.values()))


def _call_kind(took: Sequence[tuple[float, float]], parts: Mapping[str, float]) -> _CallKind:
    telling = [(span, gap) for span, gap in took if span >= _LEAST_SECONDS]
    if len(telling) * 2 < len(took):
        telling = list(took)
    spans, gaps = zip(*telling, strict=True)
    usual_seconds = usual([span for span, _ in took]) + usual([gap for _, gap in took])
    return _CallKind(median(spans) + median(gaps), usual_seconds, len(took), parts)


def _telling(kinds: Sequence[_CallKind], names: set[str]) -> list[str]:
    """Which figures make enough of some kind's predicted time."""

    def share(kind: _CallKind, name: str) -> float:
        seconds = sum(kind.parts.values())
        return kind.parts.get(name, 0.0) / seconds if seconds else 0.0

    return sorted(n for n in names if any(share(k, n) >= _TELLING_SHARE for k in kinds))


def _fit(
    machine: Machine, kinds: Sequence[_CallKind], names: Sequence[str], factors: Mapping[str, float]
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


def _balanced(
    machine: Machine, kinds: Sequence[_CallKind], names: Sequence[str], factors: Mapping[str, float]
) -> dict[str, float]:
    """Bring the factors of *names* to where all calls together take what they took.

    Each kind's own error counts in the fit; where the same figure is too low for the calls that
    take most and too high for others, their sum would be off.
    """
    rest = own = 0.0
    for kind in kinds:
        for name, seconds in kind.parts.items():
            predicted = kind.count * seconds * factors.get(name, 1.0)
            own, rest = (own + predicted, rest) if name in names else (own, rest + predicted)
    wanted = sum(kind.count * kind.usual_seconds for kind in kinds) - rest
    if own <= 0 or wanted <= 0:
        return {}
    bounds = {name: _bounds(machine, name) for name in names}
    return {n: min(max(factors[n] * wanted / own, low), high) for n, (low, high) in bounds.items()}


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
    if name in OVERHEADS:
        low, high = _STARTING_FACTORS
        return low * probed / now, high * probed / now
    low, high = _SMALL_FACTORS if name in SMALL else _FACTORS
    return now / (high * probed), now / (low * probed)


def _changed(machine: Machine, name: str, factor: float) -> float:
    now = machine.figure(name)
    return now * factor if name in OVERHEADS else now / factor
