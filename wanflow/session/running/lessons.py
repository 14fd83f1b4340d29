"""What a run teaches of its machine: the times of its calls, kept while it goes on."""

from __future__ import annotations

from typing import ClassVar

import attrs

from wanflow.errors import WanflowError
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.machine.call_times import CallTimes
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.machine.learn_files import learn_files
from wanflow.session import machines
from wanflow.trace import TraceSink
from wanflow.trace.events import Event, Move, Note, Transfer, Workspace


@attrs.define
class Lessons:
    """A sink that hears what calls take, and at the end of the run learns from it."""

    machine: Machine
    hears: ClassVar[tuple[type[Event], ...]] = (Workspace, Move, Transfer, Note)
    _times: CallTimes = attrs.field(factory=CallTimes, init=False)
    _save_seconds: list[float] = attrs.field(factory=list, init=False)
    _last_ns: int = attrs.field(default=0, init=False)

    def emit(self, event: Event) -> None:
        """Keep calls and waits; a try that ran out of memory is forgotten."""
        self._times.hear(event)
        if type(event) is Workspace:
            self._last_ns = event.ended_ns

    def saved(self, seconds: float) -> None:
        """Keep what it took to save the values after a step."""
        self._save_seconds.append(seconds)

    def keep(self, footprint: Footprint, sink: TraceSink) -> None:
        """Store what was learned; what goes wrong is a note, since the run itself is done."""
        try:
            learned = machines.learn(self.machine, footprint, self._times)
            learned = learn_files(learned, footprint, self._times, self._save_seconds)
            problem = machines.keep_learned(self.machine, learned)
        except (WanflowError, OSError, ArithmeticError) as error:
            problem = f"what this run taught was not kept: {error}"
        if problem is not None:
            sink.emit(Note("machine", problem, self._last_ns))
