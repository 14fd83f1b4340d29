"""When a run asks what lies beside its tensors."""

from __future__ import annotations

import attrs
import pytest

from tests.scheduler.brute import machine
from tests.scheduler.footprints import TOY
from wanflow.scheduler.footprint.costs import CallRecord, Cost, Footprint, StageFacts
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.run.ledger import Ledger
from wanflow.scheduler.run.step_events import Figure, StepEvents
from wanflow.trace import MemorySink
from wanflow.trace.events import Memory, Note, Step


@attrs.define
class Asked:
    """A meter with a context that says when it is asked."""

    said: list[str] = attrs.field(factory=list)
    source: str = "allocator"
    now_bytes: int = 0
    peak_bytes: int = 0

    @property
    def context(self) -> Asked:
        return self

    def stage_begins(self) -> None:
        self.said.append("begins")

    def stage_began(self) -> str:
        self.said.append("began")
        return "it grew" if self.said.count("began") == 1 else ""

    def others(self) -> tuple[Figure, ...]:
        return (Figure("context", 5, 9),)


@pytest.fixture
def made():
    """Plan two stages of three steps, two calls each."""
    calls = tuple(
        CallRecord(stage, kind, step, Cost(1, {}, 0), None, 0, (), ())
        for stage in ("a", "b")
        for step in range(3)
        for kind in ("first", "last")
    )
    facts = tuple(StageFacts(stage, "op", None, 3, 0, {}, ()) for stage in ("a", "b"))
    dtypes = dict.fromkeys(("a", "b"), "float32")
    footprint = Footprint(facts, calls, {}, frozenset(), dtypes)
    return plan([footprint], machine(TOY, "cuda", 1e-9, 1e-9), None)


def followed(made, begin=0) -> tuple[Asked, MemorySink]:
    """Follow the calls of a run that begins at one of them."""
    meter, sink = Asked(), MemorySink()
    events = StepEvents(made, sink, Ledger({"cuda:0": 9}, sink), meter, "cuda:0")
    for index, call in enumerate(made.footprint.calls[begin:], begin):
        events.before(call.stage)
        events.after(index)
        meter.said.append(f"{call.stage}{call.step}.{call.kind}")
    return meter, sink


def test_asks_around_the_first_call_and_after_the_first_step(made) -> None:
    """Of each stage; kernels are loaded when they are used for the first time."""
    meter, sink = followed(made)

    assert meter.said[:6] == ["begins", "began", "a0.first", "began", "a0.last", "a1.first"]
    assert [word for word in meter.said if word.startswith("beg")] == [
        "begins",
        "began",
        "began",
    ] * 2
    assert [e.text for e in sink.events if isinstance(e, Note)] == ["it grew"]
    assert {e.source for e in sink.events if isinstance(e, Memory)} == {"allocator", "context"}


def test_a_resumed_run_asks_where_it_goes_on(made) -> None:
    """Its process has loaded nothing yet."""
    meter, _ = followed(made, begin=2)

    assert meter.said[:5] == ["begins", "began", "a1.first", "began", "a1.last"]


def test_says_how_long_each_step_stood_still_for_others(made) -> None:
    """Since the step before; without anybody to ask it says nothing."""
    sink, meter, stood = MemorySink(), Asked(), iter(range(100, 10_000, 100))
    events = StepEvents(
        made, sink, Ledger({"cuda:0": 9}, sink), meter, "cuda:0", exchanging=lambda: next(stood)
    )
    for index, call in enumerate(made.footprint.calls):
        events.before(call.stage)
        events.after(index)
    steps = [event for event in sink.events if isinstance(event, Step)]
    assert [step.exchanging_ns for step in steps] == [100] * 6
    _, sink = followed(made)
    assert {event.exchanging_ns for event in sink.events if isinstance(event, Step)} == {0}
