"""Offsets of weights in an arena: nothing overlaps, little is lost, and it runs."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scheduler.brute import machine, uneven_chain
from tests.scheduler.footprints import FOOTPRINTS, TOY, chain
from tests.scheduler.replay import replay
from tests.scheduler.toys import DictSource, bench, profiled, random_weights, toy_model, toy_program
from wanflow.scheduler.plan.arenas import pack
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.plan.prefetch import Visit
from wanflow.scheduler.run.devices import LinkedDevice
from wanflow.scheduler.run.executor import Executor, Resumption
from wanflow.scheduler.run.ledger import Ledger
from wanflow.scheduler.run.streamer import Streamer
from wanflow.trace import MemorySink
from wanflow.trace.events import Move

CARD = machine(TOY, "cuda", 1e-3, 1e-3)
PLENTY = 10**9


def visit(name: str, first: int, last: int, nbytes: int, *, stays: bool = False) -> Visit:
    """A visit that is issued when it is used."""
    return Visit(f"m/{name}", "s", first, last, nbytes, again=False, stays=stays)


class TestPack:
    """Where each visit lies."""

    def test_one_place_is_used_again(self) -> None:
        """Segments of a kind that follow each other need the room of one."""
        visits = [visit(str(i), i, i, 10) for i in range(5)]
        packed = pack(visits, range(5), [10] * 5, PLENTY)

        assert packed.offsets == (0,) * 5
        assert [(a.first, a.last, a.nbytes) for a in packed.arenas] == [(0, 4, 10)]

    def test_what_stays_lies_below(self) -> None:
        """So that what comes and goes finds one gap, not several."""
        visits = [
            visit("a", 0, 1, 10), visit("b", 1, 20, 7, stays=True), visit("c", 2, 3, 13),
        ]  # fmt: skip
        packed = pack(visits, [0, 1, 2], [10, 17, 20, 20] + [7] * 17, PLENTY)

        assert packed.offsets == (7, 0, 7)
        assert packed.bytes_at == (20,) * 21

    def test_no_room(self) -> None:
        """All of an arena at every call is more than the budget: segments keep their slabs."""
        visits = [visit("big", 0, 0, 90), visit("small", 1, 1, 10)]
        packed = pack(visits, [0, 1], [90, 50], 100)

        assert (packed.arenas, packed.offsets, packed.bytes_at) == ((), (None, None), (90, 50))

    def test_one_model_of_two(self) -> None:
        """The one whose arena fits has it."""
        other = Visit("n/x", "s", 2, 2, 5, again=False, stays=False)
        visits = [visit("big", 0, 0, 90), visit("small", 1, 1, 10), other]
        packed = pack(visits, [0, 1, 2], [90, 50, 5], 100)

        assert [arena.model for arena in packed.arenas] == ["n"]
        assert packed.offsets == (None, None, 0)

    @settings(max_examples=300, deadline=None)
    @given(FOOTPRINTS, st.integers(0, 1000))
    def test_any_plan(self, footprint, budget) -> None:
        """Nothing lies over another one, the peak is what the plan says (by the replay)."""
        replay(plan([footprint], CARD, budget))

    @settings(max_examples=50, deadline=None)
    @given(st.integers(1, 12), st.integers(0, 100))
    def test_equal_segments_lose_nothing(self, blocks, share) -> None:
        """The arena is the most that is ever in it."""
        footprint = chain(blocks=blocks)
        ends = plan([footprint], CARD, None)
        room = (ends.resident_bytes - ends.minimum_bytes) * share // 100
        found = plan([footprint], CARD, ends.minimum_bytes + room)
        most = now = 0
        for turn in found.turns:
            now += sum(move.nbytes for move in turn.brings)
            most = max(most, now)
            now -= sum(move.nbytes for move in turn.drops)

        assert found.arenas == () or [most] == [arena.nbytes for arena in found.arenas]

    def test_unequal_segments_lose_little(self) -> None:
        """First fit over what stays: at most a tenth of the arena at 200 random plans."""
        rng = random.Random(0)  # noqa: S311
        for _ in range(200):
            sizes = [rng.randrange(50, 200) for _ in range(10)]
            footprint = uneven_chain(sizes, [1.0] * 10, 3)
            ends = plan([footprint], CARD, None)
            room = int((ends.resident_bytes - ends.minimum_bytes) * rng.random())
            found = plan([footprint], CARD, ends.minimum_bytes + room)
            without = max(found.alternatives, key=lambda a: a.peak_bytes).peak_bytes
            assert found.predicted_peak_bytes <= min(found.budget_bytes, without * 1.1)


def run(made, model, **hooks):
    """Run a plan of the toy on the linked device; the outcome, the trace, the ledger."""
    device = LinkedDevice(1e9)
    source = DictSource(random_weights(model.module))
    streamer = Streamer({"toy": model}, {"toy": source}, device)
    sink = MemorySink()
    ledger = Ledger({"cuda:0": made.budget_bytes, "host": made.host.nbytes}, sink, check=True)
    executor = Executor(
        made, (toy_program(model),), streamer, ledger, sink, torch.device("cpu"), "cuda:0", **hooks
    )
    try:
        return executor.run(), sink.events, ledger
    finally:
        device.close()


class TestRun:
    """Segments in an arena, for real: whatever is read too late is NaN."""

    @pytest.fixture
    def model(self):
        return toy_model(blocks=5)

    @pytest.mark.parametrize("share", [0, 0.3, 0.6, 1])
    def test_same_bits(self, model, share) -> None:
        """As with a slab a segment; the events add up on every tier."""
        footprint = profiled(toy_program(model))
        ends = plan([footprint], CARD, None)
        room = int((ends.resident_bytes - ends.minimum_bytes) * share)
        made = plan([footprint], CARD, ends.minimum_bytes + room)
        assert made.arenas
        out, events, ledger = run(made, model)
        levels: dict[str, int] = {}
        for event in (e for e in events if isinstance(e, Move)):
            change = -event.nbytes if event.verb == "free" else event.nbytes
            levels[event.tier] = levels.get(event.tier, 0) + change
            assert levels[event.tier] == event.resident_bytes

        plain = bench(toy_program(model)).run()

        assert torch.equal(plain.values["toy.out"], out.values["toy.out"])
        assert made.predicted_peak_bytes == ledger.peak_bytes("cuda:0")

    def test_gone_on_with(self, model) -> None:
        """The arena is open again before the weights that were in it."""
        footprint = profiled(toy_program(model))
        made = plan([footprint], CARD, plan([footprint], CARD, None).minimum_bytes + 4000)
        saved = {}

        def save(stage, step, values) -> None:
            saved[stage, step] = {name: tensor.clone() for name, (_, tensor) in values.items()}

        whole, _, _ = run(made, model, save=save)
        for (stage, step), values in tuple(saved.items())[:-1]:
            out, _, _ = run(made, model, resume=Resumption(stage, step, values))

            assert torch.equal(whole.values["toy.out"], out.values["toy.out"])
