"""Records with a device's times: in order, none lost, on a device whose clock is set by hand."""

from __future__ import annotations

import time

import attrs
import pytest
import torch

from tests.scheduler.brute import machine
from tests.scheduler.footprints import TOY
from tests.scheduler.toys import DictSource, profiled, random_weights, toy_model, toy_program
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.run.device_times import DeviceTimes, timed
from wanflow.scheduler.run.devices import CpuDevice, LinkedDevice
from wanflow.scheduler.run.executor import Executor
from wanflow.scheduler.run.ledger import Ledger
from wanflow.scheduler.run.marks import CopySpan
from wanflow.scheduler.run.streamer import Streamer
from wanflow.trace import MemorySink
from wanflow.trace.events import Kind, Memory, Move, Step, Transfer, Verb, Workspace

BEGAN = 1000  # the trace's zero by the host's clock
SECOND = 10**9


@attrs.define
class SetMark:
    """A mark that a device passes at a time, once its clock is there."""

    device: SetDevice
    time_ns: int

    @property
    def passed(self) -> bool:
        if self.device.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return self.device.clock_ns >= self.time_ns

    @property
    def at_ns(self) -> int:
        assert self.passed
        return BEGAN + self.time_ns

    def wait(self) -> None:
        self.device.clock_ns = max(self.device.clock_ns, self.time_ns)
        assert self.passed


@attrs.define
class SetDevice:
    """Computes until `busy_ns`; its clock is at `clock_ns` and moves when it is waited for."""

    busy_ns: int = 0
    clock_ns: int = 0
    aligned: int = 0
    broken: bool = False

    def mark(self) -> SetMark:
        return SetMark(self, self.busy_ns)

    def align(self) -> None:
        self.aligned += 1

    def copy(self, began_ns: int, ended_ns: int) -> CopySpan:
        return CopySpan(SetMark(self, began_ns), SetMark(self, ended_ns))


def call(name: str, began: int, ended: int, stage: str = "denoise") -> Workspace:
    """Make the record of a call that the host launched in this time."""
    return Workspace(name, stage, 0, "cuda:0", 8, 8, began, ended)


def move(verb: Verb, at: int, ended: int | None = None) -> Move:
    """Make a move by the host's clock."""
    return Move(verb, Kind.VALUE, "x", "denoise", 0, "", "cuda:0", 8, 8, at, ended or at, 0, "")


def load(queue: str, began: int, ended: int) -> Transfer:
    """Make the record of a load that was queued by then."""
    return Transfer("dit/block.0", "denoise", 0, queue, "cuda:0", 8, began, ended, 0)


@pytest.fixture
def device() -> SetDevice:
    return SetDevice()


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def times(device, sink) -> DeviceTimes:
    return DeviceTimes(device, sink, BEGAN)


def spans(sink) -> list[tuple[int, int]]:
    """Give the times of what was written."""
    return [(event.began_ns, event.ended_ns) for event in sink.events]


class TestCalls:
    """A call's time is the device's."""

    def test_the_host_runs_ahead(self, device, sink, times) -> None:
        """One call begins where the one before ended, not where it was launched."""
        for name, host, busy in (("a", 10, 500), ("b", 20, 900), ("c", 30, 1000)):
            device.busy_ns = busy
            times.emit(call(name, host, host + 5))
        times.settle()

        assert spans(sink) == [(10, 500), (500, 900), (900, 1000)]

    def test_the_device_has_nothing_to_do(self, device, sink, times) -> None:
        """A call begins when the host comes to it."""
        for name, host, busy in (("a", 10, 20), ("b", 100, 130)):
            device.busy_ns = busy
            times.emit(call(name, host, host + 5))
        times.settle()

        assert spans(sink) == [(10, 20), (100, 130)]

    def test_is_written_once_the_device_has_passed_it(self, device, sink, times) -> None:
        """Nobody waits: it comes with a later call, and all that came after it stays behind it."""
        device.busy_ns = 500
        times.emit(call("a", 10, 15))
        times.emit(move(Verb.FREE, 16))
        assert not sink.events
        device.clock_ns, device.busy_ns = 600, 900
        times.emit(call("b", 20, 25))

        assert [type(event) for event in sink.events] == [Workspace, Move]
        assert device.clock_ns == 600

    def test_what_is_no_work_happens_where_the_device_is(self, device, sink, times) -> None:
        """A value is freed when the call that reads it has ended."""
        device.busy_ns = 500
        times.emit(call("a", 10, 15))
        times.emit(move(Verb.FREE, 16))
        times.emit(move(Verb.PLACE, 700, 710))
        times.settle()

        assert spans(sink) == [(10, 500), (500, 500), (700, 710)]

    def test_a_step_ends_after_its_calls(self, device, sink, times) -> None:
        """Though the clocks are a little off."""
        device.busy_ns = 500
        times.emit(call("a", 10, 15))
        times.settle()
        times.emit(Step("denoise", 0, 4, 8, 495, 8, 0))
        times.close()

        assert spans(sink)[1] == (8, 500)
        assert device.aligned == 1


class TestCopies:
    """What compute waits for a copy is what it stands still."""

    def arrive(self, device, times, copy, asked, queue="copy", host=(12, 13)) -> None:
        """Have a call that ends at 500, a load, and a call of 100 behind it."""
        device.busy_ns = 500
        times.emit(call("a", 10, 15))
        times.arrived(load(queue, *host), device.copy(*copy), asked)
        device.busy_ns = max(500, copy[1]) + 100
        times.emit(call("b", asked + 1, asked + 2))
        times.settle()

    def test_a_late_copy_holds_compute_up(self, device, sink, times) -> None:
        """From the end of the call before to its own end; the next call begins there."""
        self.arrive(device, times, (100, 800), asked=20)

        assert sink.events[1].waited_ns == 300
        assert spans(sink) == [(10, 500), (100, 800), (800, 900)]

    def test_a_hidden_copy_does_not(self, device, sink, times) -> None:
        """It ended while the call before was at work."""
        self.arrive(device, times, (100, 400), asked=20)

        assert sink.events[1].waited_ns == 0
        assert spans(sink) == [(10, 500), (100, 400), (500, 600)]

    def test_nobody_waits_before_asking(self, device, sink, times) -> None:
        """The host came late."""
        self.arrive(device, times, (100, 800), asked=700)

        assert sink.events[1].waited_ns == 100

    def test_a_load_from_the_disk_begins_with_its_reading(self, device, sink, times) -> None:
        """The upload is its end."""
        self.arrive(device, times, (600, 800), asked=20, queue="disk", host=(12, 600))

        assert spans(sink)[1] == (12, 800)

    def test_rows_that_are_gathered_have_the_hosts_times(self, device, sink, times) -> None:
        """Reading them is no work of the device."""
        times.arrived(load("disk", 10, 60), None, 10)
        times.settle()

        assert (sink.events[0].waited_ns, *spans(sink)) == (50, (10, 60))

    def test_compute_waits_for_what_leaves(self, device, sink, times) -> None:
        """Its memory is used again."""
        device.busy_ns = 500
        times.emit(call("a", 10, 15))
        device.busy_ns = 650
        times.emit(move(Verb.OFFLOAD, 16, 17))
        times.settle()

        assert spans(sink) == [(10, 500), (500, 650)]
        assert sink.events[1].waited_ns == 150


class TestEnds:
    """Nothing is lost."""

    def test_what_the_device_did_not_come_to_is_written_too(self, device, sink, times) -> None:
        """A run that is stopped waits for nothing more: there the times are the host's."""
        device.busy_ns = 500
        times.emit(call("a", 10, 15))
        device.clock_ns, device.busy_ns = 500, 900
        times.emit(call("b", 20, 600))
        times.close()

        assert spans(sink) == [(10, 500), (500, 600)]

    def test_a_card_that_has_failed(self, device, sink, times) -> None:
        """It answers nothing; the records are all there."""
        device.busy_ns = 500
        times.emit(call("a", 10, 15))
        times.emit(move(Verb.FREE, 16))
        device.broken = True
        with pytest.raises(RuntimeError, match="illegal"):
            times.settle()
        times.close()

        assert spans(sink) == [(10, 15), (16, 16)]


class TestDevices:
    """Which devices have times of their own."""

    def test_a_cpu_has_not(self, sink) -> None:
        """Nothing is put between the run and its sink."""
        assert timed(CpuDevice(), sink, 0) is sink

    def test_a_device_behind_a_link_has(self, sink) -> None:
        """Its copies take their time there."""
        device = LinkedDevice(rate=1e9)
        assert isinstance(timed(device, sink, 0), DeviceTimes)
        device.close()


class TestRun:
    """A real run over a slow link: its loads and spills take longer than its calls."""

    @pytest.fixture(scope="class")
    @classmethod
    def plans(cls):
        model = toy_model(blocks=3)
        card = machine(TOY, "cuda", 1e-9, 1e-9)
        footprint = profiled(toy_program(model))
        most = plan([footprint], card, None).resident_bytes
        return {
            "smallest": plan([footprint], card, 0),
            "spilled": plan([footprint], card, most, spilled={"toy": "all"}),
        }

    def ran(self, made, *, with_times):
        """Run a plan; give what was written."""
        model, device, sink = toy_model(blocks=3), LinkedDevice(rate=4e6), MemorySink()
        began_ns = time.perf_counter_ns()
        to = timed(device, sink, began_ns) if with_times else sink
        budgets = {"cuda:0": made.predicted_peak_bytes, "host": made.host.nbytes}
        executor = Executor(
            made, (toy_program(model),),
            Streamer({"toy": model}, {"toy": DictSource(random_weights(model.module))}, device),
            Ledger(budgets, to, check=True, began_ns=began_ns), to, torch.device("cpu"), "cuda:0",
        )  # fmt: skip
        executor.run()
        device.close()
        return sink.events

    @pytest.mark.parametrize("which", ["smallest", "spilled"])
    def test_the_same_records(self, plans, which) -> None:
        """In the same order, each with the same bytes; only times differ."""

        def facts(events):
            return [
                (type(e), getattr(e, "name", ""), getattr(e, "resident_bytes", 0))
                for e in events
                if not isinstance(e, Memory)
            ]

        plain, timed_too = (self.ran(plans[which], with_times=w) for w in (False, True))
        assert facts(plain) == facts(timed_too)

    @pytest.mark.parametrize("which", ["smallest", "spilled"])
    def test_the_device_does_one_thing_at_a_time(self, plans, which) -> None:
        """Calls, waits for loads and for values that leave, one after the other."""
        events = self.ran(plans[which], with_times=True)
        at = waited = 0
        for event in events:
            if isinstance(event, Workspace) or (
                isinstance(event, Move) and event.verb is Verb.OFFLOAD
            ):
                assert event.began_ns >= at
                at = event.ended_ns
            elif isinstance(event, Transfer) and event.waited_ns:
                assert event.ended_ns - event.waited_ns >= at
                at = event.ended_ns
            waited += getattr(event, "waited_ns", 0)
        assert 0 < waited < at


@attrs.define
class SlowDevice(SetDevice):
    """Takes a second for each call, and comes to none before it is waited for."""

    def mark(self) -> SetMark:
        self.busy_ns += SECOND
        return SetMark(self, self.busy_ns)


def test_a_step_ends_when_its_calls_have_ended() -> None:
    """The run waits for the device there, and nowhere else."""
    model, device, sink = toy_model(blocks=3), SlowDevice(), MemorySink()
    made = plan([profiled(toy_program(model))], TOY, None)
    to = DeviceTimes(device, sink, BEGAN)
    executor = Executor(
        made, (toy_program(model),),
        Streamer({"toy": model}, {"toy": DictSource(random_weights(model.module))}, CpuDevice()),
        Ledger({"cpu": made.budget_bytes}, to), to, torch.device("cpu"), "cpu",
    )  # fmt: skip
    executor.run()

    calls = [e for e in sink.events if isinstance(e, Workspace)]
    steps = [e for e in sink.events if isinstance(e, Step)]
    assert {call.ended_ns - call.began_ns for call in calls[1:]} == {SECOND}
    assert len(calls) == len(made.footprint.calls)
    ends = {call.step: call.ended_ns for call in calls}
    assert [(step.index, step.ended_ns) for step in steps] == list(ends.items())
    assert device.aligned == len(steps)
