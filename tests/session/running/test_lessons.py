"""What a run teaches: kept in bounds, stored at its end, and never the end of the run."""

import pytest

from wanflow.scheduler.footprint.costs import CallRecord, Cost, Footprint
from wanflow.scheduler.machine.datasheets import cpu_machine
from wanflow.session import machines
from wanflow.session.running.lessons import Lessons
from wanflow.trace import MemorySink
from wanflow.trace.events import Note, Transfer, Workspace
from wanflow.units import GIB

CALL = Workspace("block", "denoise", 0, "cpu", 1, 1, 0, 5)
NEXT = Workspace("block", "denoise", 0, "cpu", 1, 1, 14, 20)
RECORD = CallRecord("denoise", "block", 0, Cost(1, {}, 0), None, 0, (), ())
FOOTPRINT = Footprint((), (RECORD, RECORD), {}, frozenset(), {})


def transfer(waited_ns):
    return Transfer("x", "denoise", 0, "disk", "cpu", 1, 0, 1, waited_ns)


@pytest.fixture
def heard(monkeypatch):
    """Let nothing be learned but what the calls took."""
    seen = []

    def learn(machine, footprint, times):
        seen.append(times.spans_of(footprint))
        return machine

    monkeypatch.setattr(machines, "learn", learn)
    return seen


class TestLessons:
    def test_keeps_what_tells(self, heard):
        """Calls and waits."""
        lessons = Lessons(cpu_machine(GIB))
        for event in (CALL, transfer(0), transfer(7), Note("x", "y", 0), NEXT):
            lessons.emit(event)
        lessons.keep(FOOTPRINT, MemorySink())
        assert heard == [((5e-9, 2e-9), (6e-9, 2e-9))]

    def test_forgets_a_try_that_failed(self, heard):
        """Its plan was another one."""
        lessons = Lessons(cpu_machine(GIB))
        for event in (CALL, CALL, Note("out of memory", "", 0), NEXT):
            lessons.emit(event)
        lessons.keep(FOOTPRINT, MemorySink())
        assert heard == [((6e-9, 0.0), None)]

    def test_what_can_not_be_kept_is_a_note(self, monkeypatch):
        """The run is done all the same."""
        monkeypatch.setattr(machines, "learn", lambda *_: 1 / 0)
        lessons, sink = Lessons(cpu_machine(GIB)), MemorySink()
        lessons.emit(CALL)
        lessons.keep(FOOTPRINT, sink)
        (note,) = sink.events
        assert (note.topic, note.at_ns) == ("machine", 5)
        assert note.text.startswith("what this run taught was not kept: ")
