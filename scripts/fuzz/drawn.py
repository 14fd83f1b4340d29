"""Plans and runs that are drawn: footprints against the checker, graphs of toys against a twin."""

from __future__ import annotations

import random
from pathlib import Path

import attrs

from scripts.fuzz.attempt import Ended, Kind
from scripts.fuzz.toy_graphs import draw
from scripts.fuzz.toy_runs import footprints, run
from tests.scheduler.brute import machine
from tests.scheduler.footprints import TOY, random_footprint, slower
from tests.scheduler.replay import replay
from tests.scheduler.test_conservation import conserved
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.run.simulator import simulate
from wanflow.trace import MemorySink

MOST_STAGES = 12


@attrs.frozen
class Plans:
    """Plans of random footprints, replayed with a set and a sum, and simulated into a trace."""

    name: str = "plans"

    def warm(self, seeds: Path, scratch: Path) -> None:
        """A plan needs nothing."""

    def attempt(self, rng: random.Random, scratch: Path) -> Ended:  # noqa: ARG002 - no files
        """Plan, replay, simulate; AssertionError for what a plan must never do."""
        footprint = random_footprint(rng.randrange(2**32), rng.randint(1, MOST_STAGES))
        variants = [footprint, slower(footprint)] if rng.random() < 0.5 else [footprint]
        like = drawn_machine(rng)
        ends = plan(variants, like, None)
        room = max(ends.resident_bytes - ends.minimum_bytes, 0)
        budget = max(ends.minimum_bytes + int(room * rng.uniform(-0.1, 1.1)), 0)
        names = [facts.stage for facts in footprint.stages]
        pins = (
            {rng.choice(names): rng.choice(("resident", "stream"))} if rng.random() < 0.2 else None
        )
        spilled = {rng.choice(names): rng.choice(("none", "all"))} if rng.random() < 0.2 else None
        ram = rng.choice((None, None, rng.randrange(400)))
        found = plan(variants, like, budget, pins, ram, spilled, spare_disk=rng.random() < 0.2)
        replay(found)
        sink = MemorySink()
        simulate(found, "device", sink)
        left = conserved(sink.events)
        made = {m.value: m.nbytes for call in found.footprint.calls for m in call.makes}
        kept = sum(n for value, n in made.items() if value in found.footprint.keeps)
        assert left.pop("device", 0) == kept, f"{left} is left, {kept} is kept"
        assert not any(left.values()), f"{left} is left"
        return Ended("fits" if found.feasible else "does not fit")


@attrs.frozen
class Runs:
    """Graphs of toys, planned and run on a CPU or behind a link, against all in memory."""

    name: str = "runs"

    def warm(self, seeds: Path, scratch: Path) -> None:  # noqa: ARG002 - no files
        """Torch imports much for fake tensors."""
        footprints(draw(random.Random(0), 1))

    def attempt(self, rng: random.Random, scratch: Path) -> Ended:  # noqa: ARG002 - no files
        """Draw a graph, plan and run it."""
        return Ended(run(draw(rng, MOST_STAGES), rng, drawn_machine(rng)))


def drawn_machine(rng: random.Random) -> Machine:
    """A machine whose bytes cost as much as some of compute, or far from it."""
    disk, link = (10 ** rng.uniform(-9, -3) for _ in range(2))
    return machine(TOY, rng.choice(("cpu", "cuda")), disk, link)


DRAWN: tuple[Kind, ...] = (Plans(), Runs())
