"""Values that wait on the host: where they may, what it saves, and that their bits come back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scheduler.brute import machine
from tests.scheduler.footprints import FOOTPRINTS, TOY
from tests.scheduler.replay import replay
from tests.scheduler.toys import DictSource, profiled, random_weights, toy_model, toy_program
from wanflow.errors import OutOfMemory
from wanflow.scheduler.footprint.costs import CallRecord, Cost, Footprint, Made, StageFacts
from wanflow.scheduler.footprint.lifetimes import lifetimes
from wanflow.scheduler.plan.host_memory import spill_buffers
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.plan.spill import Gap, gaps_of, spill_levels
from wanflow.scheduler.run.devices import LinkedDevice
from wanflow.scheduler.run.executor import Executor, Resumption
from wanflow.scheduler.run.ledger import Ledger
from wanflow.scheduler.run.streamer import Streamer
from wanflow.trace import MemorySink
from wanflow.trace.events import Move, Verb

CARD = machine(TOY, "cuda", 1e-9, 1e-9)


def waiting(nbytes: int = 100, calls: int = 3) -> Footprint:
    """A value is made, calls go by that have nothing to do with it, and it is read.

    calls    0     1    2    3     4
           [make] busy busy busy [read]
    value  |------ 100 bytes ---------|
    """
    made = (Made(1, "s.kept", nbytes, is_state=False),)
    steps = [CallRecord("s", "make", 0, Cost(nbytes, {}, 0), None, 0, (), made)]
    steps += [CallRecord("s", "busy", 0, Cost(80, {}, 0), None, 0, (), ()) for _ in range(calls)]
    steps.append(CallRecord("s", "read", 0, Cost(10, {}, 0), None, 0, (1,), ()))
    facts = (StageFacts("s", "op", None, 1, 0, {}, ()),)
    return Footprint(facts, tuple(steps), {}, frozenset(), {"s": "float32"})


class TestGaps:
    """Between two uses of a value."""

    def test_calls_between(self) -> None:
        """It leaves after the call that made it, and comes for the one that reads it.

        calls    0     1    2    3     4
        value  |---|leaves      comes|---|
        """
        assert (Gap(1, "s.kept", "s", 100, 0, 4),) == gaps_of(waiting())

    def test_used_by_the_next_call(self) -> None:
        """There is nothing to gain."""
        assert gaps_of(waiting(calls=0)) == ()

    def test_need_without_it(self) -> None:
        """Its bytes are gone at the calls between, and at those alone.

        calls      0    1    2    3    4
        there     100  180  180  180  110
        spilled   100   80   80   80  110
        """
        footprint = waiting()

        assert lifetimes(footprint).need_bytes == (100, 180, 180, 180, 110)
        assert lifetimes(footprint).without(gaps_of(footprint)).need_bytes == (100, 80, 80, 80, 110)

    def test_levels(self) -> None:
        """Nothing, and all that lowers the peak; a pin rules one of them out."""
        footprint = waiting()
        gaps = gaps_of(footprint)

        assert [(), gaps] == spill_levels(footprint, {})
        assert spill_levels(footprint, {"s": "none"}) == [()]
        assert [gaps] == spill_levels(footprint, {"s": "all"})

    def test_what_is_small_stays(self) -> None:
        """A hundredth of the peak is not worth a copy."""
        assert spill_levels(waiting(nbytes=0), {}) == [()]

    def test_buffers(self) -> None:
        """One of a size is taken again once the value is back, for the next call's value too.

        calls    0   1   2   3   4   5
        a of 10  |-----------|-------|    one buffer: at 3 the first is back
        b of 7       |-----------|        one of its size
        """
        gaps = [Gap(1, "a", "s", 10, 0, 3), Gap(2, "a", "s", 10, 3, 5), Gap(3, "b", "s", 7, 1, 4)]

        assert spill_buffers(gaps) == {10: 1, 7: 1}
        assert spill_buffers([Gap(1, "a", "s", 10, 0, 3), Gap(2, "a", "s", 10, 2, 5)]) == {10: 2}


class TestPlanned:
    """Values leave where the budget needs it."""

    def test_smallest(self) -> None:
        """The minimum is that without the value; with more room it stays."""
        footprint = waiting()
        least, most = plan([footprint], CARD, 110), plan([footprint], CARD, 180)

        assert (replay(least).peak_bytes, replay(most).peak_bytes) == (110, 180)
        assert [n for turn in least.turns for move in turn.spills for n in move.values] == [1]
        assert not any(turn.spills for turn in most.turns)
        assert least.predicted_seconds > most.predicted_seconds
        assert least.host.nbytes == 100

    def test_ram_too_small_for_it(self) -> None:
        """Then it can't leave."""
        assert not plan([waiting()], CARD, 110, ram_bytes=99).feasible
        assert plan([waiting()], CARD, 110, ram_bytes=100).feasible

    def test_nowhere_to_go(self) -> None:
        """On a CPU there is no tier below the device."""
        assert plan([waiting()], machine(TOY, "cpu", 1e-9, 1e-9), None).minimum_bytes == 180

    @settings(max_examples=300, deadline=None)
    @given(FOOTPRINTS, st.integers(0, 1000))
    def test_any(self, footprint, budget) -> None:
        """Never read while it is away, never over the budget, each one brought back."""
        replay(plan([footprint], CARD, budget))


def ran(made, model, program, *, fails=lambda _: None, resume=None, save=None):
    """Run a plan on the linked device; return the outcome, the trace and the ledger."""
    weights = random_weights(model.module)
    device = LinkedDevice(1e9, fails)
    streamer = Streamer({"toy": model}, {"toy": DictSource(weights)}, device)
    sink = MemorySink()
    ledger = Ledger({"cuda:0": made.budget_bytes, "host": made.host.nbytes}, sink, check=True)
    executor = Executor(
        made, (program,), streamer, ledger, sink, torch.device("cpu"), "cuda:0",
        resume=resume, save=save,
    )  # fmt: skip
    try:
        return executor.run(), sink.events, ledger
    except OutOfMemory:
        return None, sink.events, ledger
    finally:
        device.close()


class TestRun:
    """The toy keeps a state a block from one pass to the next."""

    @pytest.fixture
    def model(self):
        return toy_model(blocks=4)

    def plans(self, model):
        """The plans with and without a spill, each with all the room that it can use."""
        footprint = profiled(toy_program(model))
        most = plan([footprint], CARD, None).resident_bytes
        return [plan([footprint], CARD, most, spilled={"toy": pin}) for pin in ("none", "all")]

    def test_same_bits(self, model) -> None:
        """States went to the host and came back; the output is the same."""
        stay, leave = self.plans(model)
        plain, _, _ = ran(stay, model, toy_program(model))
        out, events, ledger = ran(leave, model, toy_program(model))
        offloads = [e for e in events if isinstance(e, Move) and e.verb is Verb.OFFLOAD]

        assert {"host"} == {e.tier for e in offloads}
        assert {"cuda:0"} == {e.source for e in offloads}
        assert len(offloads) == sum(len(turn.spills) for turn in leave.turns) > 0
        assert torch.equal(plain.values["toy.out"], out.values["toy.out"])
        assert ledger.peak_bytes("cuda:0") == leave.predicted_peak_bytes
        assert ledger.resident_bytes("host") == 0

    def test_saved_and_gone_on_with(self, model) -> None:
        """A value that is away is saved like any other, and put on the host again."""
        _, leave = self.plans(model)
        saved = {}

        def save(stage, step, values) -> None:
            saved[stage, step] = {name: tensor.clone() for name, (_, tensor) in values.items()}

        whole, _, _ = ran(leave, model, toy_program(model), save=save)
        for (stage, step), values in tuple(saved.items())[:-1]:
            resume = Resumption(stage, step, values)
            out, _, ledger = ran(leave, model, toy_program(model), resume=resume)

            assert torch.equal(whole.values["toy.out"], out.values["toy.out"])
            assert ledger.resident_bytes("host") == 0

    def test_out_of_memory_on_the_way_back(self, model) -> None:
        """Both ledgers are empty afterwards."""
        _, leave = self.plans(model)
        made = []

        def fails(what) -> None:
            made.append(what)
            if made.count("slab") == 9:
                raise torch.OutOfMemoryError("full")

        out, events, ledger = ran(leave, model, toy_program(model), fails=fails)

        assert out is None
        assert Verb.OFFLOAD in [e.verb for e in events if isinstance(e, Move)]
        assert (ledger.resident_bytes("cuda:0"), ledger.resident_bytes("host")) == (0, 0)
