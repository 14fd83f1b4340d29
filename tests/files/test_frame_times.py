"""Which frames of a video make a clip: those that Wan2.1's `VaceVideoProcessor` takes.

`official_frames.json` has what its functions gave, for videos of steady and of uneven rates.
"""

import itertools
import json
from pathlib import Path

import pytest

from wanflow.files.frame_times import FrameTimes

OFFICIAL = json.loads((Path(__file__).parent / "official_frames.json").read_text())


def steady(frames: int, rate: tuple[int, int]) -> FrameTimes:
    """Each frame stays equally long."""
    return FrameTimes.of(range(frames), 1, rate[1] / rate[0])


class TestOfficial:
    """The same numbers as upstream's."""

    @pytest.mark.parametrize("case", OFFICIAL["even"], ids=lambda case: str(case["frames"]))
    def test_evenly_from_all(self, case) -> None:
        """24 to 60 frames a second, one frame to thousands."""
        taken = steady(case["frames"], case["rate"]).taken(len(case["taken"]))
        assert case["taken"] == taken

    @pytest.mark.parametrize("case", OFFICIAL["at_16"], ids=lambda case: str(case["frames"]))
    def test_at_a_rate(self, case) -> None:
        """At 16 a second from the start; a slower video at its own rate."""
        assert case["taken"] == steady(case["frames"], case["rate"]).taken(len(case["taken"]), 16)

    @pytest.mark.parametrize("case", OFFICIAL["uneven"], ids=lambda case: str(len(case["lasts"])))
    def test_uneven(self, case) -> None:
        """A frame that stays long is taken again, short ones are passed over."""
        *stamps, _ = itertools.accumulate(case["lasts"], initial=0)
        times = FrameTimes.of(stamps, case["lasts"][-1], 1 / 90_000)
        assert case["taken"] == times.taken(len(case["taken"]))


class TestTimes:
    """What upstream leaves to chance."""

    def test_all_of_4n_plus_1(self) -> None:
        """Each frame once, whatever the rate."""
        assert list(range(77)) == steady(77, (30_000, 1001)).taken(77)

    def test_first(self) -> None:
        """A video as if it were cut behind a frame."""
        cut, short = steady(90, (25, 1)).first(50), steady(50, (25, 1))
        assert (cut.count, cut.taken(49)) == (50, short.taken(49))

    def test_begins_later(self) -> None:
        """Where the first frame comes late, time begins with it."""
        assert FrameTimes.of([70, 71, 72, 75, 76], 1, 0.1).taken(5) == [0, 1, 2, 2, 4]

    def test_count_at_a_rate(self) -> None:
        """Never more than there are."""
        times = steady(150, (30, 1))
        assert [times.count_at(fps) for fps in (None, 16, 30, 60)] == [150, 80, 150, 150]
