"""Which segments stay between their uses."""

from footprints import FOOTPRINTS, chain
from hypothesis import given, settings
from hypothesis import strategies as st

from wanflow.scheduler.lifetimes import lifetimes
from wanflow.scheduler.residency import choose_resident, uses_of


def choose(footprint, budget, pinned=None):
    """Choose from scratch."""
    uses = uses_of(footprint)
    return choose_resident(footprint, lifetimes(footprint), uses, budget, pinned or {})


class TestUses:
    """Where a segment is used."""

    def test_one_read_per_pass(self) -> None:
        """A segment that never stays is read in every pass."""
        assert [use.runs for use in uses_of(chain(blocks=2, passes=3))] == [3, 3]

    def test_calls_in_a_row_are_one_read(self) -> None:
        """One segment alone is never between anything."""
        (use,) = uses_of(chain(blocks=1, passes=3))

        assert (use.runs, use.calls) == (1, (0, 1, 2))


class TestChoose:
    """The segments that stay."""

    def test_everything_without_a_budget(self) -> None:
        """None means as much as it takes."""
        chosen, load = choose(chain(blocks=3), None)

        assert {("dit", f"dit/{i}") for i in range(3)} == set(chosen)
        # In the middle: all weights, the value that goes through, the workspace.
        assert max(load) == 300 + 10 + 50

    def test_nothing_at_the_minimum(self) -> None:
        """There is no room beside the segment in use."""
        chosen, load = choose(chain(), 160)

        assert not chosen
        assert max(load) == 160

    def test_as_many_as_fit(self) -> None:
        """Each hundred bytes more keep one more."""
        counts = [len(choose(chain(blocks=4), 160 + extra)[0]) for extra in (0, 99, 100, 200, 300)]

        assert counts == [0, 0, 1, 2, 4]

    def test_those_that_stay_are_spread(self) -> None:
        """Between two that stay lies one that is read, so that reading has time."""
        chosen, _ = choose(chain(blocks=8), 160 + 400)

        assert {("dit", f"dit/{i}") for i in (0, 2, 4, 6)} == set(chosen)

    def test_used_once_never_stays(self) -> None:
        """There is nothing to save."""
        assert not choose(chain(passes=1), None)[0]

    def test_pinned_to_stream(self) -> None:
        """Not even where there is room."""
        assert not choose(chain(), None, {"dit": "stream"})[0]

    def test_pinned_to_stay(self) -> None:
        """Even where there is no room."""
        chosen, load = choose(chain(), 0, {"dit": "resident"})

        assert len(chosen) == 4
        assert max(load) > 160

    @settings(max_examples=300)
    @given(FOOTPRINTS, st.integers(0, 600))
    def test_never_past_the_budget_for_their_sake(self, footprint, budget) -> None:
        """A call is past the budget only if it is so by itself."""
        _, load = choose(footprint, budget)

        for held, need in zip(load, lifetimes(footprint).need_bytes, strict=True):
            assert held <= max(budget, need)
