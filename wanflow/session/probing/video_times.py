"""What a video's encoder takes to start and to end, and for its frames."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from wanflow.scheduler.run.probe import Sample, Samples
from wanflow.stages.video_file import VideoFile

_SMALL, _SIDE, _FRAMES = 16, 256, 8
_STEP = 8  # pixels that the picture moves from frame to frame


def video_times(folder: Path) -> Samples:
    """Measure both; the first start in a process takes longest, as in a run. PyAV is loaded."""
    first = _seconds(folder, 1, _SMALL)
    again, fed = _seconds(folder, 1, _SMALL), _seconds(folder, _FRAMES, _SIDE)
    nbytes = _FRAMES * _SIDE * _SIDE * 3
    rate = nbytes / max(fed - again, fed / 10)
    return {"video_seconds": Sample.of([first]), "video_rate": Sample.of([rate])}


def _seconds(folder: Path, frames: int, side: int) -> float:
    clip = _clip(frames, side)
    began = time.perf_counter()
    sink = VideoFile(folder / "video.part", Fraction(16), None)
    try:
        sink.write(clip)
        sink.finish()
    finally:
        sink.close()
    return time.perf_counter() - began


def _clip(frames: int, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Noise that moves to the right: hard to encode, as a sharp picture is."""
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return np.stack([np.roll(picture, _STEP * number, axis=1) for number in range(frames)])
