"""Say when the device did what a trace tells, not when it was told to. No torch.

The host runs ahead of a card: a record is written when its call is launched. So it is held here
until the card has passed the mark that was set behind the call, mostly a few calls later; nobody
waits for that but the end of a step, when all there is to do is wait.

One mark a call is enough. On the card a call begins where the one before ended, or where the copy
ended that it waits for, or where the host came to it, whichever is last. What is no work of the
card's (room taken, a value freed) happens where the card is by then.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import attrs

from wanflow.scheduler.run.marks import CopySpan, StreamMark
from wanflow.trace.events import Event, Move, StageSpan, Step, Transfer, Verb, Workspace
from wanflow.trace.writer import TraceSink


class Marks(Protocol):
    """What sets marks behind the work that a device was given."""

    def mark(self) -> StreamMark | None:
        """Mark what it was given to compute so far; None where a call has ended when it returns."""

    def align(self) -> None:
        """Compare its clock with the host's; there is nothing to do for it at the time."""


@attrs.define
class _Unwritten:
    """A record and the mark that it waits for; of a load its copy, and when it was asked for."""

    event: Event
    mark: StreamMark | None = None
    copy: CopySpan | None = None
    asked_ns: int = 0


@attrs.define
class DeviceTimes:
    """A sink of one run that writes its records in order, with the device's times.

    A kill loses the records of calls that the device is at or has to come to, and those of a few
    before. *began_ns* is the trace's zero by the host's clock.
    """

    _marks: Marks
    _sink: TraceSink
    _began_ns: int
    _at_ns: int = attrs.field(default=0, init=False)  # where the device is, by what was written
    _held: deque[_Unwritten] = attrs.field(factory=deque, init=False)

    def emit(self, event: Event) -> None:
        """Take a record; what was launched for it is launched."""
        launched = isinstance(event, Workspace) or _is_offload(event)
        self._held.append(_Unwritten(event, self._marks.mark() if launched else None))
        if launched:
            self._write_passed()

    def arrived(self, transfer: Transfer, copy: CopySpan | None, asked_ns: int) -> None:
        """Take the record of a load that compute waits for since *asked_ns* of the trace."""
        mark = None if copy is None else copy.ended
        self._held.append(_Unwritten(transfer, mark, copy, asked_ns))

    def settle(self) -> None:
        """Write everything as it happens; return when the device has nothing to do."""
        while self._held:
            mark = self._held[0].mark
            if mark is not None:
                mark.wait()
            self._write(self._held.popleft())
        self._marks.align()

    def close(self) -> None:
        """Write what is left; after a failure some has only the host's times."""
        while self._held:
            held = self._held.popleft()
            try:
                passed = held.mark is None or held.mark.passed
                self._write(held if passed else _Unwritten(held.event))
            except RuntimeError:  # a card that has failed says so whatever it is asked
                self._sink.emit(held.event)

    def _write_passed(self) -> None:
        while self._held and ((mark := self._held[0].mark) is None or mark.passed):
            self._write(self._held.popleft())

    def _write(self, held: _Unwritten) -> None:
        event = held.event
        if isinstance(event, Transfer):
            event = self._transfer(event, held)
        elif isinstance(event, Workspace):
            began, ended = self._span(event, held.mark)
            event = attrs.evolve(event, began_ns=began, ended_ns=ended)
        elif isinstance(event, Move):
            event = self._move(event, held.mark)
        elif isinstance(event, Step | StageSpan) and event.ended_ns < self._at_ns:
            event = attrs.evolve(event, ended_ns=self._at_ns)
        self._sink.emit(event)

    def _span(self, event: Workspace | Move, mark: StreamMark | None) -> tuple[int, int]:
        began = max(event.began_ns, self._at_ns)
        ended = event.ended_ns if mark is None else mark.at_ns - self._began_ns
        self._at_ns = max(ended, began)
        return began, self._at_ns

    def _move(self, move: Move, mark: StreamMark | None) -> Move:
        """Room is taken and values are freed where the device is by then.

        It waits for a value to leave: the value's memory is used again.
        """
        if _is_offload(move):
            began, ended = self._span(move, mark)
            return attrs.evolve(move, began_ns=began, ended_ns=ended, waited_ns=ended - began)
        if move.began_ns >= self._at_ns:
            return move
        ended = max(move.ended_ns, self._at_ns)
        return attrs.evolve(move, began_ns=self._at_ns, ended_ns=ended)

    def _transfer(self, transfer: Transfer, held: _Unwritten) -> Transfer:
        """The device waits from when it has nothing else to do, and was asked to."""
        began, ended = transfer.began_ns, transfer.ended_ns
        if held.copy is not None:
            ended = held.copy.ended.at_ns - self._began_ns
            if transfer.queue == "copy":
                began = held.copy.began.at_ns - self._began_ns
        began = max(began, 0)
        ended = max(ended, began)
        waited = max(ended - max(held.asked_ns, self._at_ns), 0)
        self._at_ns = max(ended, self._at_ns)
        return attrs.evolve(transfer, began_ns=began, ended_ns=ended, waited_ns=waited)


def timed(marks: Marks, sink: TraceSink, began_ns: int) -> TraceSink:
    """Give the sink that a run on a device writes to: *sink* itself where the host's times are."""
    return sink if marks.mark() is None else DeviceTimes(marks, sink, began_ns)


def _is_offload(event: Event) -> bool:
    return isinstance(event, Move) and event.verb is Verb.OFFLOAD
