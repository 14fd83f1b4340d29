"""Plans: random footprints are planned, and the plans replayed by a checker of its own."""

import pkgutil
import subprocess
import sys

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scheduler.footprints import FOOTPRINTS, TOY, chain, slower
from tests.scheduler.replay import replay
from wanflow.files.folders import PACKAGE
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.plan.schedule import Plan
from wanflow.trace.events import Verb

EXAMPLES = settings(max_examples=300)
SHARES = st.fractions(0, 1, max_denominator=100)
CHAINS = st.builds(
    chain, st.integers(1, 9), st.integers(1, 5), *(st.integers(0, 300) for _ in range(3))
)
DECIDES = ("footprint", "allocator", "machine", "plan")


def between(footprint, share) -> Plan:
    """Plan at a budget between the smallest that can hold it and where everything stays."""
    ends = plan([footprint], TOY, None)
    low, high = ends.minimum_bytes, ends.resident_bytes
    return plan([footprint], TOY, low + int((high - low) * share))


def read_again(found: Plan) -> int:
    """Bytes that are read more than once, in all stages."""
    return sum(stage.streamed_bytes for stage in found.stages)


class TestReplay:
    """What holds for every plan."""

    @EXAMPLES
    @given(FOOTPRINTS, SHARES)
    def test_plan_can_be_run(self, footprint, share) -> None:
        """Within the budget, nothing used before it is there, each thing freed once."""
        found = between(footprint, share)

        assert found.feasible
        replay(found)

    @EXAMPLES
    @given(FOOTPRINTS, st.integers(0, 400))
    def test_any_budget_is_answered(self, footprint, budget) -> None:
        """A budget that can't hold it gets the smallest plan, which is a good plan as such."""
        found = plan([footprint], TOY, budget)
        replay(found)

        assert found.feasible == (found.minimum_bytes <= budget)
        if not found.feasible:
            assert found.predicted_peak_bytes == found.minimum_bytes

    @EXAMPLES
    @given(FOOTPRINTS, SHARES)
    def test_stages_say_what_happens(self, footprint, share) -> None:
        """Peaks, seconds and bytes by stage agree with the turns."""
        found = between(footprint, share)
        done = replay(found)

        stages = [step.stage for step in footprint.calls]
        for stage in found.stages:
            peaks = [p for name, p in zip(stages, done.peaks, strict=True) if name == stage.stage]
            assert max(peaks) == stage.peak_bytes
        once = sum(stage.weights_bytes for stage in found.stages)
        assert done.read_bytes == once + read_again(found)
        assert found.predicted_seconds == pytest.approx(sum(s.seconds for s in found.stages))

    @EXAMPLES
    @given(FOOTPRINTS, SHARES, st.sampled_from(["resident", "stream"]))
    def test_pins_are_kept(self, footprint, share, pin) -> None:
        """A pinned stage is as it was pinned, and the plan still holds what it says."""
        budget = between(footprint, share).budget_bytes
        found = plan([footprint], TOY, budget, {"s0": pin})
        replay(found)

        stage = found.stages[0]
        assert stage.streamed_bytes == 0 if pin == "resident" else stage.resident_segments == 0

    @EXAMPLES
    @given(FOOTPRINTS, SHARES)
    def test_same_question_same_plan(self, footprint, share) -> None:
        """Nothing depends on the order of a set."""
        first, second = between(footprint, share), between(footprint, share)

        assert first == second
        assert first.plan_id == second.plan_id


class TestBudgets:
    """The smallest and the largest budget, and those between."""

    @EXAMPLES
    @given(FOOTPRINTS)
    def test_minimum_is_the_smallest(self, footprint) -> None:
        """It is enough, and a byte less isn't."""
        least = plan([footprint], TOY, None).minimum_bytes

        assert plan([footprint], TOY, least).feasible
        assert least == 0 or not plan([footprint], TOY, least - 1).feasible

    @EXAMPLES
    @given(FOOTPRINTS)
    def test_minimum_is_the_same_at_every_budget(self, footprint) -> None:
        """It is a fact of the work, and so is where everything stays."""
        found = [plan([footprint], TOY, budget) for budget in (0, 150, None)]

        assert len({(p.minimum_bytes, p.minimum_cause, p.resident_bytes) for p in found}) == 1

    @EXAMPLES
    @given(FOOTPRINTS)
    def test_resident_is_where_nothing_is_read_twice(self, footprint) -> None:
        """More could not be faster."""
        most = plan([footprint], TOY, None).resident_bytes
        found = plan([footprint], TOY, most)

        assert read_again(found) == 0
        assert plan([footprint], TOY, most * 2).predicted_seconds == found.predicted_seconds

    @EXAMPLES
    @given(CHAINS, st.lists(SHARES, min_size=2, max_size=3))
    def test_more_is_never_slower(self, footprint, shares) -> None:
        """Where blocks are alike a larger budget reads no more."""
        times = [between(footprint, share).predicted_seconds for share in sorted(shares)]

        assert sorted(times, reverse=True) == times

    @EXAMPLES
    @given(FOOTPRINTS, SHARES)
    def test_never_slower_than_the_smallest(self, footprint, share) -> None:
        """However unlike the segments are, keeping some saves time."""
        slow, found, fast = (between(footprint, at) for at in (0, share, 1))

        assert slow.predicted_seconds >= found.predicted_seconds >= fast.predicted_seconds

    def test_pinned_weights_are_part_of_the_minimum(self) -> None:
        """They were asked for; the cause names them."""
        found = plan([chain()], TOY, 200, {"dit": "resident"})

        assert not found.feasible
        assert found.minimum_bytes == 400 + 10 + 50
        assert "pinned weights" in found.minimum_cause

    def test_staging_is_there_all_along(self) -> None:
        """One buffer for all reads, from the first call to the last."""
        found = plan([chain(blocks=2, staging=90)], TOY, None)

        # Both segments, the value that goes through, the workspace, the buffer.
        assert found.predicted_peak_bytes == 200 + 10 + 50 + 90
        replay(found)


class TestVariants:
    """The same work at other knobs."""

    def test_plain_one_where_it_fits(self) -> None:
        """A knob that costs time is not turned without need."""
        found = plan([chain(), slower(chain())], TOY, 1000)

        assert found.knobs == {"dit": {}}

    def test_smaller_one_where_it_must(self) -> None:
        """A knob makes room."""
        found = plan([chain(), slower(chain())], TOY, 159)

        assert found.feasible
        assert found.knobs == {"dit": {"rows": "half"}}

    def test_minimum_is_that_of_the_smallest(self) -> None:
        """The message must not ask for more than is needed."""
        small = plan([slower(chain())], TOY, None)

        assert plan([chain(), slower(chain())], TOY, 0).minimum_bytes == small.minimum_bytes

    @EXAMPLES
    @given(FOOTPRINTS, st.integers(0, 800))
    def test_fastest_that_fits(self, footprint, budget) -> None:
        """Neither alone would do better."""
        both = [footprint, slower(footprint)]
        found = plan(both, TOY, budget)
        alone = [p for p in (plan([f], TOY, budget) for f in both) if p.feasible]
        replay(found)

        assert found.feasible == bool(alone)
        if alone:
            assert found.predicted_seconds == min(p.predicted_seconds for p in alone)


class TestReasons:
    """Why, in words."""

    @pytest.mark.parametrize(
        ("footprint", "budget", "why"),
        [
            (chain(), 1000, "all weights stay: they fit"),
            (chain(passes=1), 1000, "each segment is used once: read, used, freed"),
            (chain(blocks=0), 1000, "no weights"),
            (chain(), 360, "2 of 4 segments stay; 400 B are read again, hidden behind compute"),
        ],
    )
    def test_of_a_stage(self, footprint, budget, why) -> None:
        """Each stage has one."""
        assert plan([footprint], TOY, budget).stages[0].why == why

    def test_of_what_is_used_once(self) -> None:
        """It doesn't stay, so that a share of the weights is kept where all that can stays."""
        twice = chain(passes=2)
        less = attrs.evolve(twice, calls=twice.calls[:-1], keeps=frozenset({7}))
        (stage,) = plan([less], TOY, 1000).stages

        assert stage.why == "all 3 segments that are used again stay; 1 used once are freed"
        assert (stage.resident_weights_bytes, stage.weights_bytes) == (300, 400)

    def test_of_the_minimum(self) -> None:
        """The call that needs the most, and its parts."""
        cause = plan([chain()], TOY, None).minimum_cause

        assert cause == "dit (block): workspace 50 B, weights 100 B, values 10 B"

    def test_of_every_move(self) -> None:
        """Those that stay are placed, the others streamed."""
        found = plan([chain()], TOY, 360)
        causes = {(m.verb, m.cause) for turn in found.turns for m in turn.brings}

        assert (Verb.PLACE, "stays") in causes
        assert (Verb.STREAM, "for this use, 1 calls ahead") in causes


class TestPlan:
    """What a plan gives to others."""

    def test_transitions_are_plain(self) -> None:
        """A row a call: what comes, what goes, by name."""
        rows = plan([chain(blocks=2, passes=1)], TOY, 160).transitions()

        assert rows[1] == {
            "call": 1, "stage": "dit", "kind": "block", "step": 0, "workspace_bytes": 50,
            "brings": [["place", "dit/1", 100, None]], "drops": [["free", "dit/1", 100]],
            "frees": ["dit.x"],
        }  # fmt: skip

    def test_id_tells_plans_apart(self) -> None:
        """Another budget or another knob is another plan."""
        footprint = chain(blocks=1)
        knobbed = attrs.evolve(
            footprint, stages=(attrs.evolve(footprint.stages[0], knobs={"rows": "half"}),)
        )
        found = [plan([footprint], TOY, 200), plan([footprint], TOY, 201)]
        found.append(plan([knobbed], TOY, 200))

        assert len({p.plan_id for p in found}) == 3


def test_what_decides_loads_no_torch() -> None:
    """Neither a module of these folders nor one of those beside them, nor through a friend."""
    modules = [
        f"wanflow.scheduler.{name}.{module.name}"
        for name in DECIDES
        for module in pkgutil.iter_modules([str(PACKAGE / "scheduler" / name)])
    ]
    beside = ("knobs", "run.ledger", "run.resume_point", "run.simulator", "run.step_events")
    modules += [f"wanflow.scheduler.{name}" for name in beside]
    block = "import sys; sys.modules['torch'] = None; "
    command = [sys.executable, "-c", f"{block}import {', '.join(modules)}"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert len(modules) > len(DECIDES) + len(beside)
    assert (done.returncode, done.stderr) == (0, "")
