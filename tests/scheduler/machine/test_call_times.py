"""The times of a run, said for other footprints and other machines."""

import attrs
import pytest

from tests.scheduler.footprints import TOY
from wanflow.scheduler.footprint.costs import CallRecord, Cost, Footprint, StageFacts
from wanflow.scheduler.machine import call_times
from wanflow.scheduler.machine.call_times import CallTimes, MeasuredTimes, by_rates
from wanflow.trace.events import Note, Transfer, Workspace

MS = 10**6
GEMM, CONV = Cost(1, {"gemm": 1e6}, 0), Cost(1, {"conv": 4e6}, 0)  # 1 and 4 ms on the toy


def footprint(*calls: tuple[str, int, Cost]) -> Footprint:
    """Make calls of one stage: kind, step, cost."""
    steps = tuple(CallRecord("s", kind, step, cost, None, 0, (), ()) for kind, step, cost in calls)
    return Footprint((StageFacts("s", "op", None, 1, 0, {}, ()),), steps, {}, frozenset(), {})


RAN = footprint(("a", 0, GEMM), ("b", 0, CONV), ("a", 1, GEMM))


def heard(*events) -> CallTimes:
    """Hear events."""
    times = CallTimes()
    for event in events:
        times.hear(event)
    return times


def call(kind: str, step: int, began_ms: float, ended_ms: float) -> Workspace:
    """Make the span of a call."""
    return Workspace(kind, "s", step, "cpu", 1, 1, int(began_ms * MS), int(ended_ms * MS))


ALL = (call("a", 0, 0, 2), call("b", 0, 2, 5), call("a", 1, 5, 11))


class TestCallTimes:
    """Spans are paired with calls."""

    def test_by_stage_step_and_kind(self) -> None:
        """Whatever the order."""
        assert heard(*ALL).seconds_of(RAN) == (0.002, 0.003, 0.006)

    def test_what_lies_between_calls_counts_and_waiting_does_not(self) -> None:
        """At the median."""
        late = (
            call("a", 0, 0, 2),
            Transfer("w", "s", 0, "disk", "cpu", 1, 0, 9 * MS, 6 * MS),
            call("b", 0, 9, 12),
            call("a", 1, 13, 14),
        )
        assert heard(*late).seconds_of(RAN) == pytest.approx((0.003, 0.004, 0.002))

    def test_a_call_that_did_not_run_has_none(self) -> None:
        """The trace was cut."""
        assert heard(*ALL[:2]).seconds_of(RAN) == (0.002, 0.003, None)

    def test_a_try_that_ran_out_of_memory_is_forgotten(self) -> None:
        """What came after it counts."""
        times = heard(call("a", 0, 0, 50), Note("out of memory", "", 1), *ALL)
        assert times.seconds_of(RAN) == (0.002, 0.003, 0.006)

    def test_is_bounded(self, monkeypatch) -> None:
        """Of a run longer than any footprint the start."""
        monkeypatch.setattr(call_times, "_MOST", 2)
        assert heard(*ALL).seconds_of(RAN) == (0.002, 0.003, None)


class TestMeasured:
    """Seconds, as the planner asks for them."""

    def measured(self, *events) -> MeasuredTimes:
        return MeasuredTimes(RAN, TOY, heard(*events).seconds_of(RAN))

    def test_on_the_same_machine_they_are_what_was_measured(self) -> None:
        """Each call its own."""
        measured = self.measured(*ALL)
        assert measured.calls == 3
        assert measured(RAN, TOY) == pytest.approx((0.002, 0.003, 0.006))

    def test_on_another_machine_they_go_by_the_kernels_rates(self) -> None:
        """One twice as fast at products helps the calls that are products."""
        faster = attrs.evolve(TOY, flops={**TOY.flops, "gemm.float32": 2e9})
        assert self.measured(*ALL)(RAN, faster) == pytest.approx((0.001, 0.003, 0.003))

    def test_a_call_that_did_not_run_is_like_those_of_its_kind(self) -> None:
        """Else like those of its stage."""
        assert self.measured(*ALL[:2])(RAN, TOY) == pytest.approx((0.002, 0.003, 0.002))
        other = footprint(("a", 0, GEMM), ("c", 0, GEMM))
        assert self.measured(*ALL)(other, TOY) == pytest.approx((0.004, 0.011 / 6))

    def test_without_any_they_are_the_rates(self) -> None:
        """Nothing was heard."""
        assert self.measured()(RAN, TOY) == by_rates(RAN, TOY)
