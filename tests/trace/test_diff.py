"""Two traces compared: what changed most comes first, and rules that a change breaks."""

import attrs
import pytest

from wanflow.errors import InputError
from wanflow.trace import summarise_events
from wanflow.trace.diff import diff, exceeded

GIB = 2**30


@pytest.fixture
def before(run, header):
    """Give the run as it was."""
    return summarise_events(run, header)


@pytest.fixture
def after(run, header):
    """Give the run with a peak of 8 GiB and 10 seconds more, other knobs and another torch."""
    changed = [
        attrs.evolve(event, resident_bytes=8 * GIB)
        if getattr(event, "resident_bytes", 0) == 7 * GIB
        else event
        for event in run
    ]
    end = next(i for i, e in enumerate(changed) if getattr(e, "op", "") == "denoise")
    changed[end] = attrs.evolve(
        changed[end], ended_ns=240 * 10**9, peak_bytes=8 * GIB, knobs=("cfg=paired",)
    )
    return summarise_events(changed, {**header, "versions": {"wanflow": "0.2.0"}})


class TestDiff:
    """What is told."""

    def test_nothing(self, before) -> None:
        """A trace and itself."""
        found = diff(before, before)
        assert (found.same, found.changes, found.settings) == (True, (), ())

    def test_most_first(self, before, after) -> None:
        """Bytes against the peak, seconds against the time of the run."""
        found = diff(before, after)
        weights = [each.weight for each in found.changes]
        assert sorted(weights, reverse=True) == weights
        assert {"peak", "seconds"} == {each.what for each in found.changes}
        assert next(each.delta for each in found.changes if each.what == "peak") == GIB

    def test_verdict_is_one_line(self, before, after) -> None:
        """Peak, time, and where."""
        assert (
            diff(before, after).verdict
            == "peak 1.00 GiB more (+14.3%), time 9.00 s more (+3.9%), most of it in denoise"
        )

    def test_settings(self, before, after) -> None:
        """What is set differently may be why."""
        assert {"version of wanflow", "knobs of denoise"} == {
            each.what for each in diff(before, after).settings
        }

    def test_stage_only_in_one(self, before, header) -> None:
        """It came from nothing."""
        empty = summarise_events([], {**header, "stages": []})
        found = {(c.stage, c.what): c for c in diff(empty, before).changes}
        assert found["encode", "peak"].ratio is None
        assert found["encode", "peak"].delta == 3 * GIB


class TestRules:
    """`--fail-if`."""

    @pytest.mark.parametrize(
        ("rule", "broken"),
        [
            ("peak>+2%", True),
            ("peak > 15%", False),
            ("peak>1023MiB", True),
            ("peak>1GiB", False),
            ("seconds>+3%", True),
            ("seconds>9s", False),
            ("denoise.seconds>9.5s", True),
            ("encode.peak>+0%", False),
        ],
    )
    def test_rule(self, before, after, rule, broken) -> None:
        """Past the threshold, and only past it."""
        assert broken == (exceeded(before, after, rule) is not None)

    def test_says_what_and_how_much(self, before, after) -> None:
        """The message of exit 5."""
        said = exceeded(before, after, "denoise.peak>1%")

        assert said == "denoise.peak 7.00 GiB -> 8.00 GiB (+14.3%), allowed is +1%"

    @pytest.mark.parametrize(
        ("rule", "hint"),
        [
            ("peak", "write QUANTITY"),
            ("peek>1%", "the quantities are peak"),
            ("dream.peak>1%", "the stages are encode, denoise, decode"),
            ("peak>3s", "peak is in bytes"),
            ("seconds>3MiB", "seconds is in seconds"),
        ],
    )
    def test_no_rule(self, before, after, rule, hint) -> None:
        """A rule that can't be read is an error, never a pass."""
        with pytest.raises(InputError) as caught:
            exceeded(before, after, rule)
        assert hint in caught.value.hint
