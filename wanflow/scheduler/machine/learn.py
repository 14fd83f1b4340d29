"""Refine a machine by a run: what its calls took against what the footprint says they do. No torch.

A call takes `call_seconds`, `kernel_seconds` for each of its kernels, and its work: FLOPs by class
and memory traffic, each over a rate. Every kind of call gives one equation by the median of its
calls; the rates are fitted to the kinds that take a millisecond or more, the overheads to the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import attrs

from wanflow.scheduler.footprint.costs import CallRecord, Footprint
from wanflow.scheduler.machine.figures import OVERHEADS, Machine
from wanflow.trace.events import Event, Move, Transfer, Workspace

_LEAST_SECONDS = 1e-3  # of a call that says something about rates
_FACTORS = (0.2, 5.0)  # a run may change a figure by so much, from what was probed
_TELLING_SHARE = 0.05  # of the time of some kind of call, below which nothing is learned
_PULL = 1e-3  # towards the common factor of all figures: decides what the calls leave open
_ROUNDS = 4


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
    machine: Machine, footprint: Footprint, events: Iterable[Event], *, device_times: bool = False
) -> Machine:
    """Return *machine* with what a finished run of *footprint* tells, marked as learned.

    On CUDA the spans of a trace say when kernels were started, not how long they ran; nothing is
    learned from them unless *device_times* says that they were taken on the device.
    """
    if machine.device == "cuda" and not device_times:
        return machine
    kinds = _kinds(machine, footprint, events)
    small = [k for k in kinds if k.is_overhead]
    large = [k for k in kinds if not k.is_overhead]
    rates = _telling(large, {name for k in large for name in k.parts if name not in OVERHEADS})
    overheads = _telling(small, set(OVERHEADS))
    factors: dict[str, float] = {}
    for _ in range(_ROUNDS):
        factors |= _fit(machine, large, rates, factors)
        factors |= _fit(machine, small, overheads, factors)
    found = {name: _changed(machine, name, factor) for name, factor in factors.items()}
    return machine.with_figures(found, "learned") if found else machine


def _kinds(machine: Machine, footprint: Footprint, events: Iterable[Event]) -> list[_Equal]:
    """Pair the spans with the calls, in order; each span with its share of what lies between."""
    waiting: dict[tuple[str, int, str], deque[CallRecord]] = {}
    for step in footprint.calls:
        waiting.setdefault((step.stage, step.step, step.kind), deque()).append(step)
    seconds: dict[tuple[object, ...], list[float]] = {}
    parts: dict[tuple[object, ...], dict[str, float]] = {}
    gaps: list[float] = []
    before: Workspace | None = None
    waited_ns = 0
    for event in events:
        if isinstance(event, Move | Transfer):
            waited_ns += event.waited_ns
        if not isinstance(event, Workspace):
            continue
        steps = waiting.get((event.stage, event.step, event.name))
        if not steps:
            continue
        step = steps.popleft()
        if before is not None and before.stage == event.stage:
            gaps.append(max(event.began_ns - before.ended_ns - waited_ns, 0) / 1e9)
        before, waited_ns = event, 0
        dtype, cost = footprint.dtypes.get(step.stage, "float32"), step.cost
        work = (tuple(sorted(cost.flops.items())), cost.memory_bytes, cost.kernels)
        key = (step.stage, step.kind, *work)
        parts[key] = machine.parts(cost.flops, cost.memory_bytes, dtype, cost.kernels)
        seconds.setdefault(key, []).append((event.ended_ns - event.began_ns) / 1e9)
    gap = median(gaps) if gaps else 0.0
    return [_kind(took, parts[key], gap) for key, took in seconds.items()]


def _kind(took: Sequence[float], parts: Mapping[str, float], gap: float) -> _Equal:
    telling = [s for s in took if s >= _LEAST_SECONDS]
    if len(telling) * 2 < len(took):
        telling = list(took)
    return _Equal(median(telling) + gap, len(took), parts)


def _telling(kinds: Sequence[_Equal], names: set[str]) -> list[str]:
    """Which figures make enough of some kind's predicted time."""

    def share(kind: _Equal, name: str) -> float:
        whole = sum(kind.parts.values())
        return kind.parts.get(name, 0.0) / whole if whole else 0.0

    return sorted(n for n in names if any(share(k, n) >= _TELLING_SHARE for k in kinds))


def _fit(
    machine: Machine, kinds: Sequence[_Equal], names: Sequence[str], known: Mapping[str, float]
) -> dict[str, float]:
    """Find a factor on the time of each figure in *names*; the others keep the ones they have."""
    equations = []
    for kind in kinds:
        mine = {n: kind.parts[n] for n in names if kind.parts.get(n)}
        rest = sum(s * known.get(n, 1.0) for n, s in kind.parts.items() if n not in mine)
        seconds = max(kind.seconds - rest, 0.2 * kind.seconds)
        if mine:
            equations.append(_Equation(mine, seconds, kind.count * kind.seconds))
    if not equations:
        return {}
    bounds = {name: _bounds(machine, name) for name in names}
    common = _common(equations)
    factors = {name: _within(common, bounds[name]) for name in names}
    for _ in range(_ROUNDS):
        factors = _solve(equations, factors, bounds, common)
    return factors


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
    equations: Sequence[_Equation],
    factors: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
    common: float,
) -> dict[str, float]:
    """Least squares of the relative errors inside the bounds; what is far off counts for less."""
    names = list(factors)
    total = sum(e.weight for e in equations)
    square = {a: dict.fromkeys(names, 0.0) for a in names}
    right = dict.fromkeys(names, _PULL * common)
    for equation in equations:
        shares = {n: s / equation.seconds for n, s in equation.parts.items()}
        error = abs(sum(factors[n] * share for n, share in shares.items()) - 1)
        weight = equation.weight / total / max(error, 0.05)
        for a, share in shares.items():
            right[a] += weight * share
            for b, other in shares.items():
                square[a][b] += weight * share * other
    for name in names:
        square[name][name] += _PULL
    found = dict(factors)
    for _ in range(200):
        for a in names:
            others = sum(square[a][b] * found[b] for b in names if b != a)
            found[a] = _within((right[a] - others) / square[a][a], bounds[a])
    return found


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


def _within(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])
