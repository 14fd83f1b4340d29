"""What the calls of a run took, by its trace, said for another machine. No torch.

A call that ran takes on another machine what it took here, times the ratio of what the rates of the
two machines say of its kernels. Calls at other knobs, which did not run, are put right by those of
the same kind, else of the same stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median

import attrs

from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.machine.file_work import file_work
from wanflow.trace.events import Event, Move, Note, Transfer, Workspace

_MOST = 200_000  # calls; as many as a footprint may have
_DISTURBED = 10.0  # times the median, between calls: where a load starts it takes up to eight

Timing = Callable[[Footprint, Machine], tuple[float, ...]]
"""Says what each call of a footprint takes on a machine, in seconds."""


def by_rates(footprint: Footprint, machine: Machine) -> tuple[float, ...]:
    """Say it by the machine's rates; on a CPU with what is written to files meanwhile."""
    seconds = _computing(footprint, machine)
    for index, work in file_work(footprint).items():
        seconds[index] += work.seconds(machine)
    return tuple(seconds)


def _computing(footprint: Footprint, machine: Machine) -> list[float]:
    known: dict[tuple[int, str], float] = {}  # by cost, which thousands of calls share, and dtype
    seconds = []
    for call in footprint.calls:
        dtype, cost = footprint.dtypes.get(call.stage, "float32"), call.cost
        key = (id(cost), dtype)
        if key not in known:
            known[key] = machine.compute_seconds(
                cost.flops, cost.memory_bytes, dtype, cost.kernels
            ) + machine.exchanging_seconds(cost.exchanged_bytes, cost.exchanges)
        seconds.append(known[key])
    return seconds


def usual(times: Sequence[float], times_median: float = 4.0) -> float:
    """Give the mean without what was disturbed, more than so many times the median.

    A kind's first call in a process takes two or three times as long as the next, in every run.
    """
    most = times_median * median(times)
    return fmean(time for time in times if time <= most)


@attrs.define
class CallTimes:
    """Hears the events of a run; of one that ran out of memory what came after it.

    Spans are paired with calls of the same stage, step and kind, in their order.
    """

    _spans: dict[tuple[str, int, str], list[tuple[int, int]]] = attrs.field(
        factory=dict, init=False
    )  # of each its own time, and what lies between it and the call before, in the same step
    _gaps: list[int] = attrs.field(factory=list, init=False)
    _turns: list[int] = attrs.field(factory=list, init=False)  # as the gaps, from step to step
    _count: int = attrs.field(default=0, init=False)
    _before: Workspace | None = attrs.field(default=None, init=False)
    _waited_ns: int = attrs.field(default=0, init=False)

    def hear(self, event: Event) -> None:
        """Keep what a call took, and what lies between two."""
        match event:
            case Workspace() if self._count < _MOST:
                self._hear_call(event)
            case Move() | Transfer():
                self._waited_ns += event.waited_ns
            case Note(topic="out of memory"):
                self._spans.clear()
                self._gaps.clear()
                self._turns.clear()
                self._count, self._before = 0, None

    def _hear_call(self, work: Workspace) -> None:
        before, gap = self._before, 0
        if before is not None and before.stage == work.stage:
            between = max(work.began_ns - before.ended_ns - self._waited_ns, 0)
            if before.step == work.step:
                self._gaps.append(between)
                gap = between
            else:
                self._turns.append(between)
        key = (work.stage, work.step, work.name)
        spans = self._spans.get(key)
        if spans is None:
            spans = self._spans[key] = []
        spans.append((max(work.ended_ns - work.began_ns, 0), gap))
        self._before, self._waited_ns = work, 0
        self._count += 1

    @property
    def gap_seconds(self) -> float:
        """What the executor does between two calls of a stage; waits are not in, nor is saving."""
        gaps = self._gaps or self._turns  # values are saved between steps
        return usual(gaps, _DISTURBED) / 1e9 if gaps else 0.0

    def spans_of(
        self, footprint: Footprint, *, runs_ahead: bool = False
    ) -> tuple[tuple[float, float] | None, ...]:
        """Say what each call that ran took by itself and beside, in seconds; None if it did not.

        Beside is its share of what the executor does between calls. Where the host *runs_ahead* of
        the device that is what lies before the call itself: mostly nothing, behind other calls.
        """
        gap = self.gap_seconds
        spans = {key: iter(times) for key, times in self._spans.items()}
        times = (
            next(spans.get((call.stage, call.step, call.kind), iter(())), None)
            for call in footprint.calls
        )
        return tuple(
            None if t is None else (t[0] / 1e9, t[1] / 1e9 if runs_ahead else gap) for t in times
        )

    def seconds_of(
        self, footprint: Footprint, *, runs_ahead: bool = False
    ) -> tuple[float | None, ...]:
        """Say what each call took, both together."""
        spans = self.spans_of(footprint, runs_ahead=runs_ahead)
        return tuple(None if span is None else sum(span) for span in spans)


@attrs.frozen
class MeasuredTimes:
    """The times of a run of *ran* on *machine*; call it as a `Timing`."""

    ran: Footprint
    machine: Machine
    seconds: Sequence[float | None]

    @property
    def calls(self) -> int:
        """How many calls were measured."""
        return sum(seconds is not None for seconds in self.seconds)

    def __call__(self, footprint: Footprint, machine: Machine) -> tuple[float, ...]:
        """Say what each call of a footprint takes on a machine."""
        there = _computing(footprint, machine)
        here = there if machine == self.machine else _computing(footprint, self.machine)
        times = self.seconds if footprint is self.ran else (None,) * len(footprint.calls)
        factors = self._factors()
        seconds = []
        for call, took, one, other in zip(footprint.calls, times, here, there, strict=True):
            if took is not None and one > 0:
                seconds.append(took * other / one)
            else:
                by_stage = factors.get((call.stage, ""), 1.0)
                seconds.append(other * factors.get((call.stage, call.kind), by_stage))
        for index, work in file_work(footprint).items():
            unheard = work if times[index] is None else work.saving  # frames are in what it took
            seconds[index] += unheard.seconds(machine)
        return tuple(seconds)

    def _factors(self) -> dict[tuple[str, str], float]:
        """How much longer than by the rates the calls of a kind, and of a stage, took."""
        took: dict[tuple[str, str], float] = {}
        rated: dict[tuple[str, str], float] = {}
        rates = _computing(self.ran, self.machine)
        for call, seconds, predicted in zip(self.ran.calls, self.seconds, rates, strict=True):
            if seconds is None:
                continue
            for key in ((call.stage, call.kind), (call.stage, "")):
                took[key] = took.get(key, 0.0) + seconds
                rated[key] = rated.get(key, 0.0) + predicted
        return {key: took[key] / rated[key] for key in took if rated[key] > 0}
