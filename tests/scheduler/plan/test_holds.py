"""What may stay between uses, the orders in which it is asked to, and when loads are issued."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scheduler.brute import machine, uneven_chain
from tests.scheduler.footprints import FOOTPRINTS, TOY, chain
from wanflow.scheduler.footprint.lifetimes import lifetimes
from wanflow.scheduler.plan.candidate import basis_of, candidate, work_of
from wanflow.scheduler.plan.holds import bytes_with, regions, uses_of
from wanflow.scheduler.plan.keep_orders import orders_of, spread
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.plan.search import DEPTH, largest, search, smallest


def staying(footprint, budget, pinned=None) -> list[str]:
    """Plan, and list what stays."""
    found = plan([footprint], TOY, budget, pinned)
    moves = (move for turn in found.turns for move in turn.brings)
    return sorted(move.segment for move in moves if move.cause.startswith("stays"))


class TestUses:
    """Where a segment is used."""

    def test_one_hold_a_segment(self) -> None:
        """Its gaps are between the passes.

        calls    0    1    2    3    4    5
        dit/0  [run]-gap-[run]-gap-[run]
        dit/1       [run]-gap-[run]-gap-[run]
        """
        holds = uses_of(chain(blocks=2, passes=3)).holds

        assert [hold.gaps for hold in holds] == [((1, 2), (3, 4)), ((2, 3), (4, 5))]

    def test_calls_in_a_row_are_one_run(self) -> None:
        """One segment alone is never between anything."""
        found = uses_of(chain(blocks=1, passes=3))

        assert [(run.first, run.last) for run in found.runs] == [(0, 2)]
        assert not found.holds

    @settings(max_examples=200)
    @given(FOOTPRINTS)
    def test_regions_are_apart(self, footprint) -> None:
        """What one of them keeps takes no room of another.

        calls    ---|== encode ==|--|======= denoise =======|---
        region         first                 second
        """
        holds = uses_of(footprint).holds
        found = regions(uses_of(footprint), range(len(holds)))
        spans = [(min(holds[n].begin for n in r), max(holds[n].end for n in r)) for r in found]

        assert sorted(n for region in found for n in region) == list(range(len(holds)))
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))

    @settings(max_examples=200)
    @given(FOOTPRINTS)
    def test_bytes_are_those_of_every_gap(self, footprint) -> None:
        """Summed call by call."""
        holds = uses_of(footprint).holds
        needs = lifetimes(footprint).need_bytes
        slow = [
            need + sum(h.nbytes for h in holds for a, b in h.gaps if a <= call < b)
            for call, need in enumerate(needs)
        ]

        assert bytes_with(needs, holds) == slow


class TestOrders:
    """The orders in which segments are asked to stay."""

    def test_spread(self) -> None:
        """The first half of it is every other one, so that the others hide behind these.

        segments   0  1  2  3  4  5  6  7
        2 stay     x           x
        4 stay     x     x     x     x
        """
        assert sorted(spread(8)[:4]) == [0, 2, 4, 6]
        assert sorted(spread(7)) == list(range(7))

    def test_each_has_all(self) -> None:
        """No order leaves one out, none comes twice."""
        holds = uses_of(uneven_chain([3, 1, 2, 5, 4], [1.0] * 5, 3)).holds
        found = orders_of(holds, range(5), 72)

        assert all(sorted(order) == [0, 1, 2, 3, 4] for order in found)
        assert len({tuple(order) for order in found}) == len(found)

    def test_few_segments_are_covered(self) -> None:
        """Each subset of six is the start of some order."""
        holds = uses_of(chain(blocks=6)).holds
        found = orders_of(holds, range(6), 72)

        assert len({frozenset(order[:n]) for order in found for n in range(7)}) == 2**6

    def test_many_segments_have_no_more_than_asked_for(self) -> None:
        """And the first of them is spread."""
        holds = uses_of(chain(blocks=500)).holds
        found = orders_of(holds, range(500), 3)

        assert len(found) == 3
        assert found[0] == spread(500)


class TestChoose:
    """The segments that stay."""

    def test_everything_without_a_budget(self) -> None:
        """None means as much as it takes."""
        assert staying(chain(blocks=3), None) == ["dit/0", "dit/1", "dit/2"]

    def test_nothing_at_the_minimum(self) -> None:
        """There is no room beside the segment in use."""
        assert not staying(chain(), 160)

    def test_as_many_as_fit(self) -> None:
        """The first hundred bytes are better used to load ahead; behind one that stays both go.

        segments    0  1  2  3  0  1  2  3  0  1  2  3
        160 + 100   r  r  r  r  r  r  r  r  r  r  r  r    each is read behind the one before it
        160 + 200   s  r  s  r  s  r  s  r  s  r  s  r    two stay, the others are read behind them
        """
        counts = [len(staying(chain(), 160 + extra)) for extra in (0, 99, 100, 200, 300)]

        assert counts == [0, 0, 0, 2, 4]

    def test_used_once_is_no_question(self) -> None:
        """There is nothing to save."""
        assert not uses_of(chain(passes=1)).holds

    def test_pinned_to_stream(self) -> None:
        """Not even where there is room."""
        assert not staying(chain(), None, {"dit": "stream"})

    def test_pinned_to_stay(self) -> None:
        """Even where there is no room."""
        assert len(staying(chain(), 0, {"dit": "resident"})) == 4


class TestCandidate:
    """What the search rests on."""

    @settings(max_examples=200)
    @given(FOOTPRINTS, st.data())
    def test_room_and_depth_never_hurt(self, footprint, data) -> None:
        """Of the same segments that stay: each load is issued as early or earlier."""
        work = work_of(basis_of(footprint, TOY, {}, None))
        count = len(work.uses.holds)
        kept = frozenset(data.draw(st.sets(st.integers(0, count - 1)) if count else st.just([])))
        low = candidate(work, kept, 0, 0).peak_bytes
        rooms = sorted(data.draw(st.lists(st.integers(0, 300), min_size=2, max_size=2)))
        for depth in range(DEPTH):
            less, more = (candidate(work, kept, low + room, depth).issues for room in rooms)
            deeper = candidate(work, kept, low + rooms[0], depth + 1).issues
            assert all(a >= b for a, b in zip(less, more, strict=True))
            assert all(a >= b for a, b in zip(less, deeper, strict=True))

    @settings(max_examples=200)
    @given(FOOTPRINTS)
    def test_more_that_stays_never_hurts_where_there_is_room(self, footprint) -> None:
        """Every start of the order, at no budget."""
        work = work_of(basis_of(footprint, TOY, {}, None))
        count = len(work.uses.holds)
        tries = [candidate(work, frozenset(range(n)), None, DEPTH) for n in range(count + 1)]

        assert all(tried.free for tried in tries)
        times = [tried.timeline.seconds for tried in tries]
        assert all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(times))


class TestWork:
    """How much is played to find a plan."""

    def tries(self, blocks: int, passes: int) -> int:
        """Search where nothing hides, so that nothing ends the search early."""
        footprint = uneven_chain([90 + i % 21 for i in range(blocks)], [1.0] * blocks, passes)
        work = work_of(basis_of(footprint, machine(TOY, "cuda", 0.1, 0.1), {}, None))
        low, high = smallest(work).peak_bytes, largest(work, None)
        return len(list(search(work, (low + high.peak_bytes) // 2, high.seconds)))

    @pytest.mark.parametrize(("blocks", "passes"), [(8, 4), (40, 10), (40, 250), (5000, 2)])
    def test_is_linear(self, blocks, passes) -> None:
        """A fixed effort in calls played, then a few dozen candidates whatever their number."""
        calls = blocks * passes

        assert self.tries(blocks, passes) * calls <= 400_000 + 30 * calls

    def test_few_calls_are_searched_through_in_more_orders(self) -> None:
        """The effort goes where it is cheap."""
        assert self.tries(8, 4) > 2 * self.tries(40, 250)
