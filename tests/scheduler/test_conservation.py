"""Conservation: what came less what left is what is there, at every instant, on every tier.

In predicted traces of random plans, and in those of real runs, where at every boundary between two
calls the ledger is also held against the storages that are alive, which are counted without it.
"""

import gc

import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.scheduler.brute import machine
from tests.scheduler.footprints import FOOTPRINTS, TOY
from tests.scheduler.toys import bench, toy_model, toy_program
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.profile.fakes import Fake
from wanflow.scheduler.run.simulator import simulate
from wanflow.trace import MemorySink
from wanflow.trace.events import Event, Move, Verb, Workspace
from wanflow.trace.levels import Residency

RATIOS = st.floats(-7, -3).map(lambda power: 10**power)
MACHINES = st.builds(machine, st.just(TOY), st.sampled_from(["cpu", "cuda"]), RATIOS, RATIOS)


def conserved(events: list[Event]) -> dict[str, int]:
    """Add the bytes up by hand, hold every event against the sum, and return what is left."""
    came: dict[str, int] = {}
    left: dict[str, int] = {}
    follow = Residency()
    for event in events:
        if isinstance(event, Move):
            book = left if event.verb is Verb.FREE else came
            book[event.tier] = book.get(event.tier, 0) + event.nbytes
        if isinstance(event, Move | Workspace):
            there = came.get(event.tier, 0) - left.get(event.tier, 0)
            at_work = event.nbytes if isinstance(event, Workspace) else 0
            assert event.resident_bytes == there + at_work
            assert not [level for level in follow.see(event) if level.by_kind.other_bytes]
            assert follow.on(event.tier).nbytes == there
    return {tier: n - left.get(tier, 0) for tier, n in came.items()}


class TestPredicted:
    """Random footprints, machines and budgets."""

    @settings(max_examples=100)
    @given(FOOTPRINTS, MACHINES, st.integers(0, 600), st.one_of(st.none(), st.integers(0, 400)))
    def test_every_instant(self, footprint, like, budget, ram) -> None:
        """Only what is kept to the end is left."""
        found = plan([footprint], like, budget, None, ram)
        sink = MemorySink()
        simulate(found, "device", sink)
        made = {m.value: m.nbytes for s in found.footprint.calls for m in s.makes}
        kept = sum(n for value, n in made.items() if value in found.footprint.keeps)
        left = conserved(sink.events)
        assert left.pop("device", 0) == kept
        assert not any(left.values())


class Storages:
    """Counts the storages of all tensors alive, but for those that were there before."""

    def __init__(self) -> None:
        gc.collect()
        self._before = self._alive()

    def nbytes(self) -> int:
        """Bytes of the storages made since."""
        return sum(n for key, n in self._alive().items() if key not in self._before)

    @staticmethod
    def _alive() -> dict[int, int]:
        tensors = [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor)]
        real = [
            t.untyped_storage()
            for t in tensors
            if t.device.type == "cpu" and not isinstance(t, Fake)
        ]
        return {storage.data_ptr(): storage.nbytes() for storage in real if storage.nbytes()}


class TestMeasured:
    """Real runs of toys."""

    @settings(max_examples=8, phases=[Phase.generate])  # an example takes seconds
    @given(
        blocks=st.integers(1, 4),
        passes=st.integers(1, 3),
        share=st.floats(0, 1),
        overlap=st.booleans(),
    )
    def test_every_instant_and_every_boundary(self, blocks, passes, share, overlap) -> None:
        """Between two calls the ledger has what is alive, no byte more or less."""
        program = toy_program(toy_model(blocks), passes)
        least, most = (bench(program, budget=b).plan.budget_bytes for b in ("minimum", None))
        budget = int(least + share * (most - least))
        checks: list[tuple[int, int]] = []

        def compare() -> None:
            checks.append((run.ledger.resident_bytes("cpu"), alive.nbytes()))

        run = bench(program, budget=budget, overlap=overlap, stop=compare)
        alive = Storages()
        outcome = run.run()

        assert len(checks) == len(run.plan.turns)
        assert [there for there, _ in checks] == [found for _, found in checks]
        kept = {t.data_ptr(): t.untyped_storage().nbytes() for t in outcome.values.values()}
        assert conserved(run.sink.events) == {"cpu": sum(kept.values())}
