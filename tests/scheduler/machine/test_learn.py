"""What a finished run teaches of its machine."""

import random

import attrs
import pytest

from wanflow.scheduler.footprint.costs import CallRecord, Cost, Footprint
from wanflow.scheduler.machine.call_times import CallTimes
from wanflow.scheduler.machine.datasheets import named_machine
from wanflow.scheduler.machine.figures import OVERHEADS, SMALL, Machine
from wanflow.scheduler.machine.learn import learn
from wanflow.trace.events import Transfer, Workspace

MS = 10**6


def cost(gemm=0.0, attention=0.0, conv=0.0, memory=0, kernels=0) -> Cost:
    flops = {"gemm": gemm, "attention": attention, "conv": conv}
    return Cost(0, {k: v for k, v in flops.items() if v}, memory, kernels)


KINDS = {  # on a machine a hundred times as fast as `cpu`, so that they are large
    "block": cost(gemm=4e10, attention=3e10, memory=10**9, kernels=40),
    "cross": cost(gemm=3e10, attention=2e10, memory=5 * 10**8, kernels=20),
    "strip": cost(conv=5e10, memory=2 * 10**9, kernels=30),
    "norm": cost(memory=4 * 10**9, kernels=10),
    "guide": cost(memory=10**4, kernels=6),
    "time": cost(gemm=1e4, kernels=30),
}


def work(kinds, rounds=20) -> Footprint:
    """Write a footprint: each kind of call once a step."""
    names = list(kinds)
    steps = [
        CallRecord("denoise", name, i, kinds[name], None, 0, 0, (), ())
        for i in range(rounds)
        for name in names
    ]  # fmt: skip
    return Footprint((), tuple(steps), {}, frozenset(), {"denoise": "float32"})


def play(machine, footprint, noise=0.0, gap=0.0, seed=1):
    """Give the events of a run on *machine*: some calls are disturbed, some wait for weights."""
    rng, now, events = random.Random(seed), 0, []  # noqa: S311
    for index, step in enumerate(footprint.calls):
        c = step.cost
        seconds = machine.compute_seconds(c.flops, c.memory_bytes, "float32", c.kernels) - gap
        seconds *= 1 + rng.uniform(-noise, noise)
        seconds *= 5 if noise and rng.random() < 0.1 else 1
        if index % 7 == 3:
            events.append(
                Transfer("w", step.stage, step.step, "disk", "cpu", 1, now, now + 9 * MS, 9 * MS)
            )  # fmt: skip
            now += 9 * MS
        ended = now + int(seconds * 1e9)
        events.append(
            Workspace(step.kind, step.stage, step.step, "cpu", 0, 0, now, ended)
        )  # fmt: skip
        now = ended + int(gap * 1e9)
    return events


def taught(machine, footprint, events) -> Machine:
    """Learn from the events of a run."""
    times = CallTimes()
    for event in events:
        times.hear(event)
    return learn(machine, footprint, times)


def predicted(machine, footprint) -> float:
    costs = [s.cost for s in footprint.calls]
    return sum(
        machine.compute_seconds(c.flops, c.memory_bytes, "float32", c.kernels) for c in costs
    )


def changed(machine, **factors) -> Machine:
    """Give a machine with some figures times a factor; `gemm` is `gemm.float32`."""
    names = {n: f"{n}.float32" if n in KERNELS else n for n in factors}
    found = {names[n]: machine.figure(names[n]) * f for n, f in factors.items()}
    return machine.with_figures(found, "measured")


KERNELS = ("gemm", "attention", "conv")


class TestLearning:
    """What a run teaches."""

    @pytest.fixture
    def start(self, cpu) -> Machine:
        every = attrs.evolve(
            cpu, kernel_seconds=2e-5, call_seconds=1e-4, memory_rate=1e11,
            flops={name: 100 * rate for name, rate in cpu.flops.items()},
        )  # fmt: skip
        return every.with_figures({n: every.figure(n) for n in every.matters}, "measured")

    @pytest.mark.parametrize("noise", [0.0, 0.1])
    @pytest.mark.parametrize(
        "factors",
        [
            {"gemm": 0.5, "attention": 0.5, "conv": 0.5, "memory_rate": 0.5},
            {"gemm": 3.0, "attention": 0.4, "conv": 0.3},
            {"attention": 0.25},
            {"conv": 4.0, "memory_rate": 2.0},
            {"kernel_seconds": 3.0},
            {"call_seconds": 4.0, "gemm": 0.7},
            {"kernel_seconds": 0.3, "call_seconds": 0.3, "gemm": 2.0, "memory_rate": 0.3},
        ],
    )
    def test_predicts_the_truth(self, start, factors, noise) -> None:
        """Within 10 % in all, and for every kind of call by itself."""
        truth, footprint = changed(start, **factors), work(KINDS)
        learned = taught(start, footprint, play(truth, footprint, noise))

        assert predicted(learned, footprint) == pytest.approx(predicted(truth, footprint), rel=0.1)
        for name, each in KINDS.items():
            alone = work({name: each})
            wanted = predicted(truth, alone)
            assert predicted(learned, alone) == pytest.approx(wanted, rel=0.15), name

    def test_calls_all_of_one_kind(self, start) -> None:
        """They can't tell the rates apart, so that all change alike."""
        footprint = work({"block": KINDS["block"]})
        truth = changed(start, gemm=0.4, attention=0.4, memory_rate=0.4)
        learned = taught(start, footprint, play(truth, footprint))

        assert predicted(learned, footprint) == pytest.approx(predicted(truth, footprint), rel=0.1)
        shares = [learned.figure(n) / start.figure(n) for n in ("gemm.float32", "memory_rate")]
        assert shares[0] == pytest.approx(shares[1], rel=0.05)

    def test_what_lies_between_calls_belongs_to_them(self, start) -> None:
        """The ledger's and the trace's part of a call is outside its span; waiting is not."""
        truth, footprint = changed(start, call_seconds=3.0), work(KINDS)
        learned = taught(start, footprint, play(truth, footprint, gap=2e-4))

        assert learned.call_seconds == pytest.approx(truth.call_seconds, rel=0.1)

    @pytest.mark.parametrize("longer", [3.0, 15.0])
    def test_what_starting_loads_takes_belongs_to_calls(self, start, longer) -> None:
        """Now and then the time between is some times as long, in every run; what is odd isn't."""
        footprint = work({n: KINDS[n] for n in ("guide", "time")})
        events, late = [], 0
        for index, event in enumerate(play(changed(start, call_seconds=4.0), footprint, gap=3e-4)):
            late += int((longer - 1) * 3e5) if index % 10 == 9 else 0
            events.append(
                attrs.evolve(event, began_ns=event.began_ns + late, ended_ns=event.ended_ns + late)
            )
        times = CallTimes()
        for event in events:
            times.hear(event)

        wanted = 3e-4 * (1.2 if longer == 3.0 else 1.0)
        assert times.gap_seconds == pytest.approx(wanted, rel=0.05)

    def test_is_marked(self, start) -> None:
        """What was taught is learned, everything else is as it was."""
        footprint = work({"strip": KINDS["strip"]})
        learned = taught(start, footprint, play(changed(start, conv=0.5), footprint))

        assert learned.source("conv.float32") == "learned"
        assert learned.was["conv.float32"] == start.figure("conv.float32")
        assert learned.source("gemm.float32") == "measured"
        assert learned.figure("gemm.float32") == start.figure("gemm.float32")

    @pytest.mark.parametrize("factor", [0.01, 100.0])
    def test_is_bounded(self, start, factor) -> None:
        """However odd the runs, rates stay within a factor of five of what was probed.

        What starting takes may be ten times less, and fifty times more: alone it is much shorter.
        """
        footprint = work(KINDS)
        names = ("gemm", "attention", "conv", "memory_rate", "kernel_seconds", "call_seconds")
        truth = changed(start, **{n: 1 / factor if n in OVERHEADS else factor for n in names})
        learned = start
        for _ in range(3):
            learned = taught(learned, footprint, play(truth, footprint))

        for name in learned.was:
            low, high = (0.1, 50) if name in OVERHEADS else (0.2, 5)
            assert low * 0.999 <= learned.figure(name) / start.figure(name) <= high * 1.001

    def test_short_calls_say_nothing_of_rates(self, start) -> None:
        """Below a millisecond it is the overhead that shows."""
        footprint = work({n: KINDS[n] for n in ("guide", "time")})
        learned = taught(start, footprint, play(changed(start, kernel_seconds=2.0), footprint))

        assert set(learned.was) <= {*OVERHEADS, *SMALL}

    def test_a_tiny_run_says_nothing_of_a_large_one(self, start) -> None:
        """Small products ten times slower than large ones, and nothing of those changes."""
        kinds = {
            "block": cost(gemm=4e7, memory=10**5, kernels=20),
            "head": cost(gemm=8e7, memory=10**5, kernels=5),
            "norm": cost(memory=10**5, kernels=10),
        }
        footprint = work(kinds)
        truth = attrs.evolve(start, small={"small.gemm.float32": start.figure("gemm.float32") / 10})
        learned = start
        for _ in range(3):
            learned = taught(learned, footprint, play(truth, footprint))

        large = work(KINDS)
        assert predicted(learned, footprint) == pytest.approx(predicted(truth, footprint), rel=0.1)
        assert predicted(learned, large) == pytest.approx(predicted(start, large), rel=0.01)

    def test_work_outside_of_kernels_teaches_nothing(self, start) -> None:
        """A video encoder takes long and has no kernels."""
        encode = {"encode": cost()}
        footprint = work({**KINDS, **encode})
        truth = changed(start, gemm=0.5)
        events = [
            attrs.evolve(e, ended_ns=e.began_ns + 50 * MS) if e.name == "encode" else e
            for e in play(truth, footprint)
        ]
        learned = taught(start, footprint, events)

        block = work({"block": KINDS["block"]})
        assert predicted(learned, block) == pytest.approx(predicted(truth, block), rel=0.1)

    def test_nothing_is_learned_from_nothing(self, start) -> None:
        """No events, or those of other calls."""
        stray = [Workspace("read staging", "denoise", 0, "cpu", 0, 0, 0, MS)]

        assert start == taught(start, work(KINDS), [])
        assert start == taught(start, work(KINDS), stray)


class TestLearningOnACard:
    """There a call takes what its kernels take, or what they take to be started."""

    @pytest.fixture
    def start(self) -> Machine:
        card = named_machine("rtx4090")
        return card.with_figures({n: card.figure(n) for n in card.matters}, "measured")

    @pytest.fixture
    def footprint(self) -> Footprint:
        """Write calls that work for milliseconds, and some that are mostly started."""
        large = {name: KINDS[name] for name in ("block", "strip", "norm")}
        heavy = {
            name: cost(
                **{k: 100 * v for k, v in c.flops.items()}, memory=100 * c.memory_bytes,
                kernels=c.kernels,
            )
            for name, c in large.items()
        }  # fmt: skip
        return work({**heavy, "guide": cost(memory=10**4, kernels=60)})

    @pytest.mark.parametrize(
        "factors",
        [
            {"gemm": 0.5, "attention": 0.5, "conv": 0.5, "memory_rate": 0.5},
            {"gemm": 2.0, "conv": 0.4},
            {"kernel_seconds": 2.0, "call_seconds": 2.0},
        ],
    )
    def test_predicts_the_truth(self, start, footprint, factors) -> None:
        """Every kind of call by itself, within 10 %."""
        truth = changed(start, **factors)
        learned = taught(start, footprint, play(truth, footprint))

        for call in footprint.calls[:4]:
            alone = work({call.kind: call.cost})
            wanted = predicted(truth, alone)
            assert predicted(learned, alone) == pytest.approx(wanted, rel=0.1), call.kind

    def test_calls_that_work_say_nothing_of_starting(self, start, footprint) -> None:
        """It was hidden behind the calls before."""
        heavy = attrs.evolve(
            footprint, calls=tuple(c for c in footprint.calls if c.kind != "guide")
        )
        learned = taught(start, heavy, play(changed(start, gemm=0.5), heavy))

        assert not {*OVERHEADS} & {*learned.was}

    def test_what_lies_before_a_call_is_its_own(self, start, footprint) -> None:
        """A call that was waited for by the card; the others came while it worked."""
        truth = changed(start, call_seconds=3.0)
        events = play(truth, footprint)
        late = 2 * int(truth.call_seconds * 1e9)
        now, shifted = 0, []
        for event in events:
            own = late if getattr(event, "name", "") == "guide" else 0
            now += own
            shifted.append(
                attrs.evolve(event, began_ns=event.began_ns + now, ended_ns=event.ended_ns + now)
            )
        learned = taught(start, footprint, shifted)

        block = work({"block": footprint.calls[0].cost})
        assert predicted(learned, block) == pytest.approx(predicted(truth, block), rel=0.02)
        assert learned.call_seconds > start.call_seconds
