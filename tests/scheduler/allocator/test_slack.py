"""What the allocator adds to the calls of a footprint."""

import attrs
import pytest
import torch

from tests.scheduler.toys import Script, profiled, toy_model, toy_program
from wanflow.scheduler.allocator.slack import SlackEstimator
from wanflow.scheduler.footprint.costs import CallRecord, Cost, Footprint, Made, StageFacts
from wanflow.scheduler.footprint.lifetimes import lifetimes
from wanflow.scheduler.last_look import ANSWER_BYTES
from wanflow.scheduler.machine.datasheets import named_machine
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.scheduler.program import Call
from wanflow.units import MIB


def call(value, nbytes, requests, origin, reads=()):
    """Make a call that makes one value."""
    made = (Made(value, "a.x", nbytes, is_state=False),)
    peak = high = 0
    taken = []
    for request in requests:
        taken.append(max(request, 0))
        high += request if request > 0 else -taken[-request - 1]
        peak = max(peak, high)
    cost = Cost(peak, {}, 0, 0, tuple(requests), (origin,))
    return CallRecord("a", "call", 0, cost, None, 0, reads, made)


def footprint(*steps):
    """Make a footprint of one stage."""
    facts = StageFacts("a", "toy", None, 1, 0, {}, ())
    return Footprint((facts,), steps, {}, frozenset(), {})


def slack(found, *, expandable):
    """Play a footprint; the slack of its calls."""
    charged = SlackEstimator(expandable=expandable).charged(found, 1)
    return [step.cost.slack_bytes for step in charged.calls]


class TestSlack:
    def test_rounding(self) -> None:
        """A value of 21 MiB has a segment of 22, or two pages of 20."""
        found = footprint(call(1, 21 * MIB, [21 * MIB], 1))

        assert slack(found, expandable=False) == [MIB]
        assert slack(found, expandable=True) == [19 * MIB]

    def test_a_value_pins_the_segment_it_lies_in(self) -> None:
        """12 MiB are carved from the 100 of what was there before; the next call finds that."""
        carve = call(1, 12 * MIB, [100 * MIB, -1, 12 * MIB], 2)
        after = call(2, 20 * MIB, [20 * MIB], 1, reads=(1,))
        wide = call(3, 100 * MIB, [100 * MIB], 1, reads=(2,))

        assert slack(footprint(carve, after, wide), expandable=False) == [0, 68 * MIB, 80 * MIB]
        assert max(slack(footprint(carve, after, wide), expandable=True)) < 40 * MIB

    def test_no_slack_where_the_peak_is_elsewhere(self) -> None:
        """The peak of what is reserved over the peak of what is asked for, in each call."""
        found = footprint(call(1, 20 * MIB, [20 * MIB, 20 * MIB, -2], 1))

        assert slack(found, expandable=False) == slack(found, expandable=True) == [0]

    def test_values_made_elsewhere_are_placed(self) -> None:
        """A request was not seen; the bytes are there all the same."""
        step = call(1, 21 * MIB, [], 0)
        step = attrs.evolve(step, cost=attrs.evolve(step.cost, workspace_bytes=21 * MIB))

        assert slack(footprint(step), expandable=False) == [MIB]

    @pytest.mark.parametrize("expandable", [False, True])
    def test_knowledge_changes_nothing(self, expandable) -> None:
        """A loop that is played from memory has the slack of one that is played call by call."""
        found = profiled(toy_program(toy_model(3), passes=6))
        fresh = tuple(attrs.evolve(s, cost=attrs.evolve(s.cost)) for s in found.calls)

        assert slack(found, expandable=expandable) == slack(
            attrs.evolve(found, calls=fresh), expandable=expandable
        )


class TestCharged:
    def test_is_part_of_what_a_call_needs(self) -> None:
        """And of nothing else."""
        found = profiled(toy_program(toy_model(3)))
        charged = SlackEstimator(expandable=True).charged(found, 1)
        extra = [step.cost.slack_bytes for step in charged.calls]
        before, after = lifetimes(found), lifetimes(charged)

        assert [n + e for n, e in zip(before.need_bytes, extra, strict=True)] == list(
            after.need_bytes
        )
        assert before.live_bytes == after.live_bytes
        assert min(extra) >= 0 < max(extra)

    def test_weights_are_rounded(self) -> None:
        """To what the machine gives out."""
        found = profiled(toy_program(toy_model(2)))
        charged = SlackEstimator(expandable=True).charged(found, 2 * MIB)

        assert {2 * MIB} == {use.nbytes for use in charged.segments.values()}

    def test_the_plan_says_it(self) -> None:
        """At its highest call."""
        charged = SlackEstimator(expandable=True).charged(profiled(toy_program(toy_model(3))), 1)
        made = plan([charged], named_machine("rtx4090"), None)

        assert made.slack_bytes in {step.cost.slack_bytes for step in charged.calls} - {0}
        assert "allocator slack" in made.minimum_cause


class TestRequests:
    """What the recorder writes down."""

    def cost(self, run):
        """Profile one call for a card; it reads `a.x` of a thousand numbers."""
        seed = Call("seed", lambda _: {"a.x": torch.zeros(1000)})
        script = Script("a", lambda: iter([seed, Call("call", run, ("a.x",))]))
        return Profiler("cuda").profile((script,), {}, lambda _: False).calls[1].cost

    def test_takes_and_gives_in_order(self) -> None:
        """The first goes when the second is there; the second is the value."""

        def run(values):
            first = values["a.x"] + values["a.x"]
            second = first[:500] * first[500:]
            del first
            return {"a.y": second}

        found = self.cost(run)

        assert (found.requests, found.origins) == ((4000, 2000, -1, ANSWER_BYTES["cuda"], -3), (2,))

    def test_a_kernels_own_room_is_a_request(self) -> None:
        """Taken when the output is there, and given back at once."""

        def run(values):
            data, weight = values["a.x"].view(1, 10, 10, 10), torch.ones(5, 10, 1, 1)
            return {"a.y": torch.nn.functional.conv2d(data, weight)}

        found = self.cost(run)

        assert (found.requests, found.origins) == (
            (200, 2000, 6000, -3, -1, ANSWER_BYTES["cuda"], -4),
            (2,),
        )

    def test_what_is_given_was_taken(self) -> None:
        """Once each, and what the call makes is never given."""
        found = profiled(toy_program(toy_model(3)))
        for step in found.calls:
            taken, given = 0, set()
            for request in step.cost.requests:
                taken += request > 0
                if request < 0:
                    assert -request <= taken
                    assert -request not in given
                    given.add(-request)
            assert given.isdisjoint(step.cost.origins)
