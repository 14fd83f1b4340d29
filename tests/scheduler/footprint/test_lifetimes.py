"""How long values live, and what each call needs."""

import attrs
from hypothesis import given, settings

from tests.scheduler.footprints import FOOTPRINTS, chain
from wanflow.scheduler.footprint.costs import CallRecord, Cost, Footprint, Made, SegmentUse
from wanflow.scheduler.footprint.lifetimes import lifetimes


def step(reads=(), makes=(), segment=None, workspace=0, gathered=0) -> CallRecord:
    """Write a call in few words; *makes* maps numbers to bytes."""
    made = tuple(Made(n, "a.x", nbytes, is_state=False) for n, nbytes in dict(makes).items())
    cost = Cost(workspace, {}, 0)
    return CallRecord("a", "call", 0, cost, segment, gathered, reads, made)


def footprint(*steps: CallRecord, keeps=(), staging=0) -> Footprint:
    """Put calls together, with a segment of 100 bytes."""
    segments = {"m/s": SegmentUse("m/s", 100)}
    return Footprint((), steps, segments, frozenset(keeps), {}, staging)


class TestFrees:
    """When a value goes."""

    def test_after_its_last_reader(self) -> None:
        """Neither before nor later."""
        life = lifetimes(footprint(step(makes={1: 5}), step((1,)), step((1,)), step()))

        assert life.frees == ((), (), (1,), ())

    def test_at_once_when_nobody_reads_it(self) -> None:
        """A value for nobody goes with the call that makes it."""
        assert lifetimes(footprint(step(makes={1: 5}))).frees == ((1,),)

    def test_never_when_it_is_kept(self) -> None:
        """What is an output stays."""
        assert lifetimes(footprint(step(makes={1: 5}), step((1,)), keeps=[1])).frees == ((), ())

    @settings(max_examples=300)
    @given(FOOTPRINTS)
    def test_exactly_once(self, found) -> None:
        """Every value is freed once or kept, and no reader comes after."""
        life = lifetimes(found)
        freed = [number for frees in life.frees for number in frees]
        made = {m.value for s in found.calls for m in s.makes}

        assert len(set(freed)) == len(freed)
        assert made - found.keeps == set(freed)
        for index, frees in enumerate(life.frees):
            assert not {r for s in found.calls[index + 1 :] for r in s.reads} & set(frees)


class TestLive:
    """What is there when a call starts."""

    def test_counts_from_making_to_freeing(self) -> None:
        """A value isn't there before the call that makes it has run."""
        life = lifetimes(footprint(step(makes={1: 5}), step((1,), {2: 7}), step((2,)), step()))

        assert life.live_bytes == (0, 5, 7, 0)

    @settings(max_examples=300)
    @given(FOOTPRINTS)
    def test_is_the_sum_of_what_lives(self, found) -> None:
        """The running sum equals the sum over first write and last read."""
        life = lifetimes(found)
        ends = {number: i for i, frees in enumerate(life.frees) for number in frees}

        for index, live in enumerate(life.live_bytes):
            before = [m for s in found.calls[:index] for m in s.makes]
            there = (m for m in before if ends.get(m.value, len(found.calls)) >= index)
            assert live == sum(m.nbytes for m in there)


class TestNeeds:
    """A call's peak without any other weights."""

    def test_segment_and_workspace(self) -> None:
        """Values, weights and workspace are there together."""
        life = lifetimes(footprint(step(makes={1: 5}), step((1,), segment="m/s", workspace=40)))

        assert life.need_bytes[1] == 5 + 100 + 40

    def test_staging_is_always_there(self) -> None:
        """One buffer for the whole run, used or not."""
        life = lifetimes(footprint(step(segment="m/s", workspace=20), step()), 30)

        assert (life.live_bytes, life.need_bytes) == ((30, 30), (150, 30))

    def test_gathered_rows(self) -> None:
        """Rows stay during the call."""
        assert lifetimes(footprint(step(gathered=9, workspace=20))).need_bytes == (29,)

    def test_no_calls(self) -> None:
        """A graph without calls needs nothing."""
        assert lifetimes(attrs.evolve(chain(), calls=())).need_bytes == ()
