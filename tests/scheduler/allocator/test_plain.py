"""The CUDA allocator's rules: by hand, and whatever is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanflow.scheduler.allocator.expandable import Expandable, is_small
from wanflow.scheduler.allocator.plain import Allocator, rounded, segment_bytes
from wanflow.units import KIB, MIB

# Takes by size, and gives of the n-th block that is in use.
SIZES = st.one_of(st.integers(1, 2 * MIB), st.integers(1, 60 * MIB))
TURNS = st.lists(st.tuples(st.booleans(), SIZES, st.integers(0, 99)), max_size=60)


def play(allocator, turns):
    """Take and give; yield after each turn what is in use: block and bytes asked for."""
    held = []
    for takes, size, number in turns:
        if takes or not held:
            held.append((allocator.take(size), size))
        else:
            allocator.give(held.pop(number % len(held))[0])
        yield held


def finish(allocator, turns):
    """Play to the end; what is in use then."""
    return list(play(allocator, turns) if turns else [[]])[-1]


class TestSizes:
    @pytest.mark.parametrize(
        ("asked", "block", "segment"),
        [
            (1, 512, 2 * MIB),
            (512, 512, 2 * MIB),
            (513, KIB, 2 * MIB),
            (MIB, MIB, 2 * MIB),
            (MIB + 1, MIB + 512, 20 * MIB),
            (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
            (10 * MIB, 10 * MIB, 10 * MIB),
            (21 * MIB, 21 * MIB, 22 * MIB),
        ],
    )
    def test_are_rounded(self, asked, block, segment) -> None:
        """Blocks to 512 bytes, segments by three classes."""
        assert (block, segment) == (rounded(asked), segment_bytes(asked))


class TestRules:
    """Cases worked out by hand."""

    def test_small_requests_share_a_segment(self) -> None:
        """Four of half a MiB fill one; the fifth needs another."""
        allocator = Allocator()
        for _ in range(4):
            allocator.take(MIB // 2)
        assert allocator.reserved_bytes == 2 * MIB
        allocator.take(1)
        assert allocator.reserved_bytes == 4 * MIB

    def test_pools_are_apart(self) -> None:
        """A small request takes nothing from a large segment."""
        allocator = Allocator()
        allocator.take(5 * MIB)
        allocator.take(KIB)

        assert allocator.reserved_bytes == 22 * MIB

    def test_smallest_that_fits_is_taken(self) -> None:
        """Not the one that was freed last."""
        allocator = Allocator()
        sizes = (30, 12, 40)
        blocks = [allocator.take(size * MIB) for size in sizes]
        for block in blocks:
            allocator.give(block)
        taken = allocator.take(11 * MIB + 1)

        assert blocks[1].address == taken.address
        assert allocator.reserved_bytes == 82 * MIB

    def test_rest_of_a_mib_is_not_split_off(self) -> None:
        """In a large segment a block keeps it; more than that is free for others."""
        allocator = Allocator()
        assert allocator.take(11 * MIB).size == 12 * MIB
        allocator = Allocator()
        allocator.give(allocator.take(14 * MIB))
        assert allocator.take(12 * MIB).size == 12 * MIB

    def test_neighbours_are_joined(self) -> None:
        """Three parts of 20 MiB, freed in any order, hold 20 MiB again."""
        allocator = Allocator()
        first, second, third = (allocator.take(6 * MIB) for _ in range(3))
        for block in (first, third, second):
            allocator.give(block)
        allocator.take(20 * MIB)

        assert allocator.reserved_bytes == 20 * MIB

    def test_short_memory_frees_whole_segments_only(self) -> None:
        """A block in one keeps all of it."""
        allocator = Allocator(tight=True)
        large, small = allocator.take(30 * MIB), allocator.take(5 * MIB)
        allocator.give(large)
        assert (allocator.pinned_bytes, allocator.reserved_bytes) == (20 * MIB, 50 * MIB)
        allocator.take(40 * MIB)

        assert small.used
        assert allocator.reserved_bytes == 60 * MIB

    def test_a_value_pins_what_it_was_carved_from(self) -> None:
        """The reason for slack."""
        allocator = Allocator()
        allocator.give(allocator.take(100 * MIB))
        allocator.take(12 * MIB)

        assert allocator.pinned_bytes == 100 * MIB


class TestAlways:
    @given(TURNS, st.booleans())
    def test_blocks_never_overlap(self, turns, tight) -> None:
        """They cover each segment from end to end, each once; no two free ones are neighbours."""
        allocator = Allocator(tight=tight)
        for _ in play(allocator, turns):
            blocks = allocator.blocks()
            assert allocator.reserved_bytes == sum(block.size for block in blocks)
            for block in blocks:
                if block.after is not None:
                    assert block.after.address == block.address + block.size
                    assert block.used or block.after.used

    @given(TURNS, st.booleans())
    def test_sums(self, turns, tight) -> None:
        """Asked for <= in use <= pinned <= reserved."""
        allocator = Allocator(tight=tight)
        for held in play(allocator, turns):
            assert all(size <= block.size for block, size in held)
            assert allocator.used_bytes == sum(block.size for block, _ in held)
            assert allocator.used_bytes <= allocator.pinned_bytes <= allocator.reserved_bytes

    @given(TURNS, st.booleans())
    def test_all_freed_is_whole_again(self, turns, tight) -> None:
        """A free block a segment, which short memory gives back."""
        allocator = Allocator(tight=tight)
        held = finish(allocator, turns)
        for block, _ in held:
            allocator.give(block)
        assert all(len(segment) == 1 for segment in allocator.state())
        assert (allocator.used_bytes, allocator.pinned_bytes) == (0, 0)
        allocator.release()
        assert (allocator.reserved_bytes, allocator.state()) == (0, ())

    @given(TURNS, SIZES)
    def test_state_is_all_there_is(self, turns, size) -> None:
        """An allocator that is made from it goes on in the same way."""
        allocator = Allocator()
        finish(allocator, turns)
        again = Allocator(allocator.state())
        allocator.take(size)
        again.take(size)

        assert allocator.state() == again.state()
        assert allocator.pinned_bytes == again.pinned_bytes


class TestExpandable:
    def test_pages_that_hold_nothing_go(self) -> None:
        """What is left is what is touched."""
        pool = Expandable(small=False)
        first = pool.take(100 * MIB)
        second = pool.take(10 * MIB)
        assert pool.pinned_bytes == 120 * MIB
        pool.give(first)
        assert pool.pinned_bytes == 20 * MIB
        pool.give(second)
        assert pool.pinned_bytes == 0

    def test_small_requests_have_pages_of_their_own(self) -> None:
        """Of two MiB."""
        assert is_small(MIB)
        assert not is_small(MIB + 1)
        pool = Expandable(small=True)
        for _ in range(3):
            pool.take(MIB)

        assert pool.pinned_bytes == 4 * MIB

    def test_smallest_gap_is_taken(self) -> None:
        """And the start of it."""
        pool = Expandable(small=False)
        gaps = [pool.take(n * MIB) for n in (30, 5, 20, 5, 40, 5)]
        for block in gaps[::2]:
            pool.give(block)

        assert gaps[2][0] == pool.take(18 * MIB)[0]

    @given(TURNS, st.booleans())
    def test_never_overlap_and_sums(self, turns, small) -> None:
        """Blocks are apart; what is pinned is the pages they touch, counted one by one."""
        pool = Expandable(small=small)
        page = (2 if small else 20) * MIB
        for held in play(pool, turns):
            spans = sorted(span for span, _ in held)
            assert pool.used() == spans
            ends = [address + size for address, size in spans]
            assert all(e <= s[0] for e, s in zip(ends, spans[1:], strict=False))
            touched = {
                number
                for address, size in spans
                for number in range(address // page, (address + size - 1) // page + 1)
            }
            assert pool.pinned_bytes == len(touched) * page
            assert pool.pinned_bytes >= sum(size for _, size in held)

    @given(TURNS, SIZES, st.booleans())
    def test_state_is_all_there_is(self, turns, size, small) -> None:
        """A pool that is made from it goes on in the same way; all freed is as at first."""
        pool = Expandable(small=small)
        held = finish(pool, turns)
        again = Expandable(pool.state(), small=small)
        assert pool.take(size) == again.take(size)
        assert pool.pinned_bytes == again.pinned_bytes
        for block, _ in held:
            again.give(block)
        assert len(again.used()) == 1
