"""Footprints to plan: random ones by a seed, and a chain of alike blocks written by hand."""

from __future__ import annotations

import random

import attrs
from hypothesis import strategies as st

from wanflow.scheduler.footprint.costs import (
    CallRecord,
    Cost,
    Footprint,
    Made,
    SegmentUse,
    StageFacts,
)
from wanflow.scheduler.machine.figures import Machine

KNOWN = {"name": "toy", "device": "cpu", "context_bytes": 0, "library_bytes": 0}
FILES_IN_NO_TIME = {
    "save_seconds": 0.0, "save_rate": 1e21, "video_seconds": 0.0, "video_rate": 1e21,
}  # fmt: skip
KINDS = ("", "gemm.", "attention.", "conv.")


def toy_machine() -> Machine:
    """Make a machine that does a billion of anything in a second, and starts it in no time."""
    flops = {f"{kind}float32": 1e9 for kind in KINDS}
    needed = [f.name for f in attrs.fields(Machine) if f.default is attrs.NOTHING]
    figures = {name: 0.0 if name.endswith("_seconds") else 10**9 for name in needed}
    return Machine(**{**figures, **KNOWN, **FILES_IN_NO_TIME, "flops": flops})


TOY = toy_machine()


class Maker:
    """Writes a footprint call by call; *rng* decides everything."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.calls: list[CallRecord] = []
        self.segments: dict[str, SegmentUse] = {}
        self.alive: list[int] = []
        self.states: dict[str, int] = {}
        self.count = 0

    def make(self, name: str, *, is_state: bool = False) -> Made:
        self.count += 1
        return Made(self.count, name, self.rng.randrange(40), is_state)

    def call(self, stage: str, step: int, segment: str | None) -> None:
        """Write a call that reads some old values, and makes some new ones."""
        rng = self.rng
        reads = set(rng.sample(self.alive, min(len(self.alive), rng.randrange(3))))
        makes = [self.make(f"{stage}.value") for _ in range(rng.randrange(3))]
        if rng.random() < 0.3:
            name = f"{stage}.state.{rng.randrange(2)}"
            reads |= {self.states[name]} if name in self.states else set()
            makes.append(self.make(name, is_state=True))
            self.states[name] = makes[-1].value
        self.alive = (self.alive + [m.value for m in makes if not m.is_state])[-4:]
        workspace = sum(m.nbytes for m in makes) + rng.randrange(60)
        cost = Cost(workspace, {"gemm": float(rng.randrange(10**6))}, rng.randrange(1000))
        gathered = rng.choice([0, 0, rng.randrange(30)])
        self.calls.append(
            CallRecord(stage, "call", step, cost, segment, gathered, tuple(reads), tuple(makes))
        )

    def stage(self, stage: str, alike: bool) -> None:
        """Write passes over the stage's segments; *alike*: all of one size and cost."""
        rng = self.rng
        nbytes = rng.randrange(1, 100)
        names = [f"{stage}/{i}" for i in range(rng.randrange(6))]
        for name in names:
            if not alike:
                nbytes = rng.randrange(100)
            self.segments[name] = SegmentUse(name, nbytes)
        for step in range(rng.randrange(1, 5)):
            for name in names or [None]:
                for _ in range(rng.choice([1, 1, 2])):
                    self.call(stage, step, name)
                if rng.random() < 0.2:
                    self.call(stage, step, None)

    def footprint(self, stages: list[str]) -> Footprint:
        facts = tuple(StageFacts(s, "op", s, 1, 0, {}, ()) for s in stages)
        numbers = range(1, self.count + 1)
        keeps = frozenset(n for n in numbers if self.rng.random() < 0.1)
        dtypes = dict.fromkeys(stages, "float32")
        staging = self.rng.choice([0, 0, self.rng.randrange(90)])
        return Footprint(facts, tuple(self.calls), self.segments, keeps, dtypes, staging)


def random_footprint(seed: int, stages: int) -> Footprint:
    """Make a footprint: passes over segments of any size, values of any lifetime."""
    maker = Maker(random.Random(seed))  # noqa: S311
    names = [f"s{i}" for i in range(stages)]
    for name in names:
        maker.stage(name, alike=False)
    return maker.footprint(names)


FOOTPRINTS = st.builds(random_footprint, st.integers(0, 10**6), st.integers(1, 3))


def slower(footprint: Footprint) -> Footprint:
    """Set a knob: half the workspace beyond what is made, twice the work."""
    calls = []
    for call in footprint.calls:
        nbytes = sum(value.nbytes for value in call.makes)
        workspace = nbytes + (call.cost.workspace_bytes - nbytes) // 2
        flops = {kind: amount * 2 for kind, amount in call.cost.flops.items()}
        calls.append(attrs.evolve(call, cost=Cost(workspace, flops, call.cost.memory_bytes)))
    facts = tuple(attrs.evolve(s, knobs={"rows": "half"}) for s in footprint.stages)
    return attrs.evolve(footprint, calls=tuple(calls), stages=facts)


def chain(
    blocks: int = 4, passes: int = 3, nbytes: int = 100, workspace: int = 50, staging: int = 0
) -> Footprint:
    """Alike blocks, one after the other, a few times: a value of 10 bytes goes through them."""
    segments = {f"dit/{i}": SegmentUse(f"dit/{i}", nbytes) for i in range(blocks)}
    calls, number = [], 0
    for step in range(passes):
        for name in segments:
            reads = (number,) if number else ()
            number += 1
            value = Made(number, "dit.x", 10, is_state=False)
            cost = Cost(workspace, {"gemm": 1e6}, 0)
            calls.append(CallRecord("dit", "block", step, cost, name, 0, reads, (value,)))
    facts = (StageFacts("dit", "denoise", "dit", passes, nbytes * blocks, {}, ()),)
    keeps = frozenset({number})
    return Footprint(facts, tuple(calls), segments, keeps, {"dit": "float32"}, staging)
