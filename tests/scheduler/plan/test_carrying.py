"""Weights that stay for the next run of a plan: within the budget, where it finds them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scheduler.brute import machine
from tests.scheduler.footprints import FOOTPRINTS, TOY, random_footprint
from tests.scheduler.run.test_simulator import check
from wanflow.scheduler.plan.planner import plan

RATIOS = st.floats(-7, -3).map(lambda power: 10**power)
MACHINES = st.builds(machine, st.just(TOY), st.sampled_from(["cpu", "cuda"]), RATIOS, RATIOS)
TWO_STAGES = random_footprint(5, 2)
RAMS = st.one_of(st.none(), st.integers(0, 400))


def moves_of(found):
    """What comes and goes for the run before and after."""
    brings = [move for turn in found.turns for move in turn.brings]
    drops = [move for turn in found.turns for move in turn.drops]
    return brings, drops


class TestRandom:
    """Any footprint, any budget."""

    @settings(max_examples=300, deadline=None)
    @given(FOOTPRINTS, MACHINES, st.integers(0, 600), RAMS)
    def test_inside_the_budget(self, footprint, like, budget, ram) -> None:
        """Played event by event it has the planned peak and time; the peak fits, where one did."""
        alone = plan([footprint], like, budget, None, ram)
        found = plan([footprint], like, budget, None, ram, repeated=True)

        check(found)
        assert found.feasible == alone.feasible
        if found.feasible:
            assert found.predicted_peak_bytes <= budget
        if like.cached_disk_rate >= like.disk_rate:  # what was read before is no slower
            assert found.predicted_seconds <= alone.predicted_seconds + 1e-12
            assert found.predicted_seconds <= found.first_seconds + 1e-12

    @settings(max_examples=300, deadline=None)
    @given(FOOTPRINTS, MACHINES, st.integers(0, 600))
    def test_is_left_where_it_is_found(self, footprint, like, budget) -> None:
        """The segments that a run finds are those that the one before left, at the same places."""
        found = plan([footprint], like, budget, repeated=True)
        brings, drops = moves_of(found)
        left = {move.segment: move.offset_bytes for move in drops if move.carry.stays}

        assert found.finds == left
        first = found.turns[0].brings if found.turns else ()
        assert all(move in first for move in brings if move.carry.comes)
        arenas = {arena.model: arena for arena in found.arenas}
        for segment, offset in left.items():
            arena = arenas.get(segment.partition("/")[0])
            if offset is not None and arena is not None:
                assert (arena.first, arena.last) == (0, len(found.turns) - 1)

    @settings(max_examples=100, deadline=None)
    @given(FOOTPRINTS, MACHINES, st.integers(0, 600))
    def test_last(self, footprint, like, budget) -> None:
        """The last run leaves nothing and loads nothing for another one."""
        found = plan([footprint], like, budget, repeated=True).as_last()
        brings, drops = moves_of(found)

        assert not found.carries
        assert not any(move.carry.ahead for move in (*brings, *drops))
        assert len(brings) == len(drops) + sum(bool(m.values) for m in brings)


class TestRoom:
    """What room is for."""

    def test_all_stays(self) -> None:
        """Where everything fits nothing is read again."""
        like = machine(TOY, "cpu", 1e-3, 1e-3)
        found = plan([TWO_STAGES], like, 10_000, repeated=True)

        brings, drops = moves_of(found)
        assert {move.segment for move in drops if move.carry.stays} == set(TWO_STAGES.segments)
        assert all(move.carry.comes for move in brings)

    def test_peak_of_one_run(self) -> None:
        """A run's peak is not raised where that saves no time worth it."""
        like = machine(TOY, "cpu", 1e-12, 1e-12)
        alone = plan([TWO_STAGES], like, 10_000)

        found = plan([TWO_STAGES], like, 10_000, repeated=True)
        assert found.predicted_peak_bytes == alone.predicted_peak_bytes
        assert found.carries
