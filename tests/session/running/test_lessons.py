"""What a run teaches: kept in bounds, stored at its end, and never the end of the run."""

import pytest

from wanflow.scheduler.machine.datasheets import cpu_machine
from wanflow.session import machines
from wanflow.session.running import lessons
from wanflow.session.running.lessons import Lessons
from wanflow.trace import MemorySink
from wanflow.trace.events import Note, Transfer, Workspace
from wanflow.units import GIB

CALL = Workspace("block", "denoise", 0, "cpu", 1, 1, 0, 5)


def transfer(waited_ns):
    return Transfer("x", "denoise", 0, "disk", "cpu", 1, 0, 1, waited_ns)


@pytest.fixture
def heard(monkeypatch):
    """Let nothing be learned but what was heard."""
    seen = []

    def learn(machine, _footprint, events):
        seen.extend(events)
        return machine

    monkeypatch.setattr(machines, "learn", learn)
    return seen


class TestLessons:
    def test_keeps_what_tells(self, heard):
        """Calls and waits."""
        found = Lessons(cpu_machine(GIB))
        for event in (CALL, transfer(0), transfer(7), Note("x", "y", 0)):
            found.emit(event)
        found.keep(None, MemorySink())
        assert heard == [CALL, transfer(7)]

    def test_forgets_a_try_that_failed(self, heard):
        """Its plan was another one."""
        found = Lessons(cpu_machine(GIB))
        for event in (CALL, CALL, Note("out of memory", "", 0), CALL):
            found.emit(event)
        found.keep(None, MemorySink())
        assert heard == [CALL]

    def test_is_bounded(self, heard, monkeypatch):
        """Of a long run the end."""
        assert Lessons(cpu_machine(GIB))._heard.maxlen == lessons._MOST

    def test_what_can_not_be_kept_is_a_note(self, monkeypatch):
        """The run is done all the same."""
        monkeypatch.setattr(machines, "learn", lambda *_: 1 / 0)
        found, sink = Lessons(cpu_machine(GIB)), MemorySink()
        found.emit(CALL)
        found.keep(None, sink)
        (note,) = sink.events
        assert (note.topic, note.at_ns) == ("machine", 5)
        assert note.text.startswith("what this run taught was not kept: ")
