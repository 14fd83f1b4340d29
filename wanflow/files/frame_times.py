"""When the frames of a video are shown, and which of them make a clip of fewer frames."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np


@attrs.frozen(eq=False)
class FrameTimes:
    """Until when each frame is shown, in seconds from the first, in fp32 as Wan's code has it."""

    ends: np.ndarray[tuple[int], np.dtype[np.float32]]
    middle: float  # of the time in which the last one is shown

    @classmethod
    def of(cls, stamps: Sequence[int], last: int, unit: float) -> FrameTimes:
        """Take when frames come, sorted, and how long the last one stays, in *unit* seconds."""
        starts = (np.asarray([*stamps, stamps[-1] + last]) - stamps[0]) * unit
        rounded = starts.astype(np.float32)
        return cls(rounded[1:], float(rounded[-2:].mean()))

    @property
    def count(self) -> int:
        """Frames."""
        return len(self.ends)

    def first(self, count: int) -> FrameTimes:
        """Give those of the first frames alone."""
        if count >= self.count:
            return self
        start = self.ends[count - 2] if count > 1 else np.float32(0)
        return FrameTimes(self.ends[:count], float((start + self.ends[count - 1]) / np.float32(2)))

    def count_at(self, fps: float | None) -> int:
        """How many frames there are at a rate, which is never above the video's own."""
        return self.count if fps is None else int(float(self.ends[-1]) * self._rate(fps) + 1e-3)

    def taken(self, frames: int, fps: float | None = None) -> list[int]:
        """Number the *frames* of a clip: evenly from all of it, or at a rate from its start.

        The rules are `_get_frameid_bbox_adjust_last` and `_get_frameid_bbox_default` of Wan2.1's
        `wan/utils/vace_processor.py`.
        """
        if fps is None:
            times = np.linspace(0.0, self.middle, frames)
            return list(map(int, np.searchsorted(self.ends, times, side="left")))
        times = np.linspace(0.0, frames / self._rate(fps), frames)
        numbers = np.searchsorted(self.ends, times, side="right")
        return [min(int(number), self.count - 1) for number in numbers]

    def _rate(self, fps: float) -> float:
        return min(fps, self.count / float(self.ends[-1]))
