"""What the calls of a run took, by its trace, said for another machine. No torch.

A call that ran takes on another machine what it took here, times the ratio of what the rates of the
two machines say of its kernels. Calls at other knobs, which did not run, are put right by those of
the same kind, else of the same stage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from statistics import median

import attrs

from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.machine.figures import Machine
from wanflow.trace.events import Event, Move, Note, Transfer, Workspace

_MOST = 200_000  # calls; as many as a footprint may have

Place = tuple[str, int, str]
"""Stage, step and kind of a call."""


Timing = Callable[[Footprint, Machine], tuple[float, ...]]
"""Says what each call of a footprint takes on a machine, in seconds."""


def by_rates(footprint: Footprint, machine: Machine) -> tuple[float, ...]:
    """Say it by the machine's rates."""
    return tuple(
        machine.compute_seconds(
            step.cost.flops,
            step.cost.memory_bytes,
            footprint.dtypes.get(step.stage, "float32"),
            step.cost.kernels,
        )
        for step in footprint.calls
    )


@attrs.define
class Listener:
    """Hears the events of a run; of one that ran out of memory what came after it."""

    _spans: dict[Place, list[int]] = attrs.field(factory=dict, init=False)
    _gaps: deque[int] = attrs.field(factory=lambda: deque(maxlen=_MOST), init=False)
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
                self._count, self._before = 0, None

    def _hear_call(self, work: Workspace) -> None:
        before = self._before
        if before is not None and before.stage == work.stage:
            self._gaps.append(max(work.began_ns - before.ended_ns - self._waited_ns, 0))
        place = (work.stage, work.step, work.name)
        self._spans.setdefault(place, []).append(max(work.ended_ns - work.began_ns, 0))
        self._before, self._waited_ns = work, 0
        self._count += 1

    def seconds_of(self, footprint: Footprint) -> tuple[float | None, ...]:
        """Say what each call of the footprint that ran took; None for one that did not run.

        What the executor does between two calls, at the median, is in it.
        """
        gap = median(self._gaps) if self._gaps else 0.0
        waiting = {place: deque(spans) for place, spans in self._spans.items()}
        found: list[float | None] = []
        for step in footprint.calls:
            spans = waiting.get((step.stage, step.step, step.kind))
            found.append((spans.popleft() + gap) / 1e9 if spans else None)
        return tuple(found)


@attrs.frozen
class MeasuredTimes:
    """The times of a run of *ran* on *machine*; call it as a `Timing`."""

    ran: Footprint
    machine: Machine
    seconds: Sequence[float | None]

    @property
    def calls(self) -> int:
        """How many calls were measured."""
        return sum(each is not None for each in self.seconds)

    def __call__(self, footprint: Footprint, machine: Machine) -> tuple[float, ...]:
        """Say what each call of a footprint takes on a machine."""
        there = by_rates(footprint, machine)
        here = there if machine == self.machine else by_rates(footprint, self.machine)
        known = self.seconds if footprint is self.ran else (None,) * len(footprint.calls)
        factors = self._factors()
        found = []
        for step, took, one, other in zip(footprint.calls, known, here, there, strict=True):
            if took is not None and one > 0:
                found.append(took * other / one)
            else:
                by_stage = factors.get((step.stage, ""), 1.0)
                found.append(other * factors.get((step.stage, step.kind), by_stage))
        return tuple(found)

    def _factors(self) -> dict[tuple[str, str], float]:
        """How much longer than by the rates the calls of a kind, and of a stage, took."""
        took: dict[tuple[str, str], float] = {}
        said: dict[tuple[str, str], float] = {}
        rates = by_rates(self.ran, self.machine)
        for step, seconds, predicted in zip(self.ran.calls, self.seconds, rates, strict=True):
            if seconds is None:
                continue
            for key in ((step.stage, step.kind), (step.stage, "")):
                took[key] = took.get(key, 0.0) + seconds
                said[key] = said.get(key, 0.0) + predicted
        return {key: took[key] / said[key] for key in took if said[key] > 0}
