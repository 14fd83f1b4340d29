"""The planner against every plan there is, and against itself at other budgets."""

import itertools
import math

import attrs
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.scheduler.brute import best_seconds, machine, uneven_chain
from tests.scheduler.footprints import FOOTPRINTS, TOY, slower
from tests.scheduler.replay import replay
from wanflow.scheduler.footprint.lifetimes import lifetimes
from wanflow.scheduler.plan import search
from wanflow.scheduler.plan.candidate import basis_of, with_less_cached, work_of
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.plan.search import smallest

CLOSE = 1 + 1e-8  # a billionth is no difference to the planner
DEVICES = st.sampled_from(["cpu", "cuda"])
RATIOS = st.floats(-2, 2).map(lambda power: 10**power)
SHARES = st.fractions(0, 1, max_denominator=100)
MORE = st.lists(SHARES, min_size=10, max_size=10).map(sorted)


@st.composite
def cases(draw, blocks: tuple[int, int] = (1, 6), *, even: bool):
    """Variants of a chain, a machine, room between its least and its most, and RAM or none."""
    count = draw(st.integers(*blocks))
    if even:
        sizes, seconds, rooms = [100] * count, [1.0] * count, [50] * count
    else:
        each = {"min_size": count, "max_size": count}
        sizes = draw(st.lists(st.integers(1, 200), **each))
        seconds = draw(st.lists(st.floats(0.01, 2), **each))
        rooms = draw(st.lists(st.integers(10, 300), **each))
    chain = uneven_chain(sizes, seconds, draw(st.integers(1, 4)), rooms)
    a_byte = sum(seconds) / sum(sizes)
    like = machine(TOY, draw(DEVICES), a_byte * draw(RATIOS), a_byte * draw(RATIOS))
    variants = [chain, slower(chain)] if draw(st.booleans()) else [chain]
    ends = plan(variants, like, None)
    room = ends.resident_bytes - ends.minimum_bytes
    budget = ends.minimum_bytes + int(room * draw(SHARES))
    ram = None
    if like.device == "cuda" and draw(st.booleans()):
        ram = 2 * max(sizes) + int(sum(sizes) * draw(SHARES))
    return variants, like, budget, ram


@st.composite
def machines(draw, device: str | None = None):
    """A machine on which a byte of weights costs as much as some of compute, or far from it."""
    chosen = device or draw(DEVICES)
    return machine(TOY, chosen, 1e-5 * draw(RATIOS), 1e-5 * draw(RATIOS))


def of(variants, like, budget, ram=None):
    return plan(variants, like, budget, None, ram)


def seconds_of(made) -> float:
    """The time of a plan; one that can't be run takes forever."""
    return made.predicted_seconds if made.feasible else math.inf


def falls(times) -> bool:
    """Whether no time is more than the one before it."""
    return all(later <= earlier * CLOSE for earlier, later in itertools.pairwise(times))


class TestBruteForce:
    """Every subset of segments that stay, every depth, every knob.

    calls    0  1  2  3 | 0  1  2  3 |      segments of a chain, pass after pass
    stays    0=============|=====...        each subset of them
    loads       1  2  3      1  2  3        the others, each issued up to three calls ahead
    """

    @pytest.mark.wide
    @settings(max_examples=500, deadline=None)
    @given(cases(even=True))
    def test_equal_segments(self, case) -> None:
        """No plan is faster."""
        found = of(*case)
        replay(found)

        assert found.predicted_seconds == pytest.approx(best_seconds(*case), rel=1e-8)

    @settings(max_examples=500, deadline=None)
    @given(cases(even=False))
    def test_any_segments(self, case) -> None:
        """None is faster by more than 2 %."""
        found = of(*case)
        replay(found)

        assert found.predicted_seconds <= best_seconds(*case) * 1.02

    @pytest.mark.wide
    @seed(0)
    @settings(max_examples=25, deadline=None, database=None)
    @given(cases((7, 8), even=False))
    def test_where_not_every_subset_is_tried(self, case) -> None:
        """The same orders, more segments than they cover."""
        assert of(*case).predicted_seconds <= best_seconds(*case) * 1.02


class TestMonotone:
    """More room is never slower."""

    @settings(max_examples=300, deadline=None)
    @given(FOOTPRINTS, machines(), MORE, st.booleans())
    def test_in_the_budget(self, footprint, like, shares, knobs) -> None:
        """Whatever the footprint, over ten budgets."""
        variants = [footprint, slower(footprint)] if knobs else [footprint]
        ends = of(variants, like, None)
        room = ends.resident_bytes - ends.minimum_bytes
        plans = [of(variants, like, ends.minimum_bytes + int(room * at)) for at in shares]

        assert all(p.feasible for p in plans)
        assert falls([p.predicted_seconds for p in plans])

    @pytest.mark.wide
    @settings(max_examples=100, deadline=None)
    @given(FOOTPRINTS, machines(), MORE)
    def test_with_as_little_effort_as_for_many_calls(self, footprint, like, shares) -> None:
        """It does not hold because few segments are searched through."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search, "_EFFORT_CALLS", 1)
            ends = of([footprint], like, None)
            room = ends.resident_bytes - ends.minimum_bytes
            plans = [of([footprint], like, ends.minimum_bytes + int(room * at)) for at in shares]

        assert falls([p.predicted_seconds for p in plans])

    @pytest.mark.wide
    @settings(max_examples=100, deadline=None)
    @given(FOOTPRINTS, machines("cuda"), st.integers(0, 99), st.integers(0, 99))
    def test_in_budget_and_ram(self, footprint, like, budget_seed, ram_seed) -> None:
        """Along both sides of a grid, and the host is never over its own."""
        ends = of([footprint], like, None)
        budgets = _row(ends.minimum_bytes, ends.resident_bytes, budget_seed)
        least = of([footprint], like, ends.minimum_bytes)  # it may spill what needs RAM
        rams = _row(ends.host.minimum_bytes, least.host.nbytes + 500, ram_seed)
        grid = [[of([footprint], like, b, r) for b in budgets] for r in rams]

        assert all(p.feasible for p in grid[-1])
        for row, ram in zip(grid, rams, strict=True):
            assert all(p.host.nbytes <= ram for p in row if p.feasible)
            assert falls([seconds_of(p) for p in row])
        for column in zip(*grid, strict=True):
            assert falls([seconds_of(p) for p in column])


def _row(low: int, high: int, number: int) -> list[int]:
    """Five sizes from *low* to *high*, those between moved about by *number*."""
    return [low, *(low + (high - low) * (100 * i + number) // 400 for i in range(3)), high]


class TestHost:
    """The RAM and the disk behind it."""

    @settings(max_examples=100, deadline=None)
    @given(FOOTPRINTS, machines("cuda"), st.integers(0, 600))
    def test_infeasible_only_without_a_ring(self, footprint, like, ram) -> None:
        """All else can come from the disk each time."""
        found = of([footprint], like, 10**6, ram)

        assert found.feasible == (found.host.minimum_bytes <= ram)

    @settings(max_examples=100, deadline=None)
    @given(FOOTPRINTS, machines("cuda"), SHARES)
    def test_only_what_comes_again_is_cached(self, footprint, like, share) -> None:
        """What is read once has no use for a second home."""
        ends = of([footprint], like, None)
        room = ends.resident_bytes - ends.minimum_bytes
        found = of([footprint], like, ends.minimum_bytes + int(room * share))
        brought = [move.segment for turn in found.turns for move in turn.brings]

        assert set(found.host.cached) <= {name for name in brought if brought.count(name) > 1}

    @settings(max_examples=200, deadline=None)
    @given(FOOTPRINTS, machines("cuda"))
    def test_no_more_is_cached_than_makes_it_faster(self, footprint, like) -> None:
        """As fast as with everything cached; with a byte less it takes longer."""
        everything = smallest(work_of(basis_of(footprint, like, {}, None)))
        enough = with_less_cached(everything)
        least = smallest(work_of(basis_of(footprint, like, {}, enough.host.nbytes - 1)))

        assert enough.seconds == everything.seconds
        assert enough.host.nbytes <= everything.host.nbytes
        assert bool(enough.host.cached) == (least.host_fits and least.seconds > enough.seconds)

    def test_what_compute_hides_is_not_cached(self) -> None:
        """A fast disk needs no RAM beside it, however much there is."""
        chain = uneven_chain([100] * 6, [1.0] * 6, 4)
        found = of([chain], machine(TOY, "cuda", 0.001, 0.001), 300)

        assert found.host.cached == frozenset()
        assert found.host.nbytes == 200

    def test_little_ram_reads_from_the_disk(self) -> None:
        """Again and again, which takes longer."""
        chain = uneven_chain([100] * 6, [1.0] * 6, 4)
        like = machine(TOY, "cuda", 0.05, 0.001)
        rich, poor = (of([chain], like, 300, ram) for ram in (None, 250))

        assert (len(rich.host.cached), len(poor.host.cached)) == (6, 0)
        assert rich.predicted_seconds < poor.predicted_seconds


class TestSimpleWays:
    """Never slower than what anyone would do by hand."""

    @settings(max_examples=300, deadline=None)
    @given(FOOTPRINTS, machines(), SHARES)
    def test_all_resident_and_whole_model_swap(self, footprint, like, share) -> None:
        """All weights first, then everything; or stage by stage, each with all its weights."""
        ends = of([footprint], like, None)
        budget = ends.minimum_bytes + int(1.5 * (ends.resident_bytes - ends.minimum_bytes) * share)
        found = of([footprint], like, budget)
        used = list(dict.fromkeys(s.segment for s in footprint.calls if s.segment is not None))
        sizes = [footprint.segments[name].nbytes for name in used]
        loads = [like.load(size, from_host=False, file_bytes=size) for size in sizes]
        loading = sum(load.disk_seconds + load.copy_seconds for load in loads)
        needs = _needs_without_weights(footprint, like)
        at_once = sum(footprint.segments[name].nbytes for name in used)
        of_stage = {
            step.stage: sum(footprint.segments[n].nbytes for n in used if n.startswith(step.stage))
            for step in footprint.calls
        }
        swapped = (n + of_stage[s.stage] for n, s in zip(needs, footprint.calls, strict=True))

        if budget >= max(needs) + at_once or budget >= max(swapped):
            assert found.predicted_seconds <= (loading + sum(found.timeline.compute)) * CLOSE

    def test_a_model_that_two_stages_use(self) -> None:
        """It stays from one to the other where there is room, else it is read again."""
        footprint = _shared()
        like = machine(TOY, "cpu", 0.1, 0.1)
        plans = [of([footprint], like, budget) for budget in (160, 10**6)]
        for found in plans:
            replay(found)

        assert [sum(s.streamed_bytes for s in p.stages) for p in plans] == [300, 0]
        assert plans[1].predicted_seconds < plans[0].predicted_seconds


def _needs_without_weights(footprint, like) -> list[int]:
    """What each call needs but for segments."""
    staging = footprint.staging_bytes if like.device == "cpu" else 0
    needs = lifetimes(footprint, staging).need_bytes
    return [
        need - (footprint.segments[s.segment].nbytes if s.segment is not None else 0)
        for need, s in zip(needs, footprint.calls, strict=True)
    ]


def _shared():
    """Three blocks in two passes, the second one of another stage."""
    chain = uneven_chain([100] * 3, [1.0] * 3, 2)
    steps = tuple(attrs.evolve(s, stage=("dit", "more")[s.step], step=0) for s in chain.calls)
    facts = (chain.stages[0], attrs.evolve(chain.stages[0], stage="more"))
    dtypes = {"dit": "float32", "more": "float32"}
    return attrs.evolve(chain, calls=steps, stages=facts, dtypes=dtypes)


class TestBound:
    """The time of the busiest queue, and the work of the search."""

    @settings(max_examples=300, deadline=None)
    @given(FOOTPRINTS, machines(), SHARES)
    def test_is_a_bound(self, footprint, like, share) -> None:
        """No queue does two things at once: its work, summed here move by move, takes so long."""
        ends = of([footprint], like, None)
        room = ends.resident_bytes - ends.minimum_bytes
        found = of([footprint], like, ends.minimum_bytes + int(room * share))
        disk, copy, seen = 0.0, 0.0, set()
        for move in (move for turn in found.turns for move in turn.brings):
            near = move.segment in seen and like.device == "cpu"
            from_host = near or bool(move.values) or move.segment in seen
            load = like.load(move.nbytes, from_host=from_host, file_bytes=move.nbytes)
            seen.add(move.segment)
            disk, copy = disk + load.disk_seconds, copy + load.copy_seconds
        spilled = sum(move.nbytes for turn in found.turns for move in turn.spills)
        working = sum(found.timeline.compute) + spilled / like.download_rate
        busiest = max(disk, copy, working)

        assert found.bound_seconds == pytest.approx(busiest)
        assert found.predicted_seconds * CLOSE >= found.bound_seconds
