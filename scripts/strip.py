"""Put every other frame of a run's video side by side in one picture, and its first in another.

Usage: python -m scripts.strip RUN        writes RUN/strip.png and RUN/first.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.train_tiny.judge import read_video

_EVERY, _SCALE, _GAP = 2, 2, 4  # frames; times as large; white pixels between


def strip(frames: NDArray[np.uint8]) -> Image.Image:
    """Give the picture of `[frames, height, width, 3]`: twice as large, edges kept hard."""
    tall = [frame.repeat(_SCALE, 0).repeat(_SCALE, 1) for frame in frames[::_EVERY]]
    gap = np.full((tall[0].shape[0], _GAP, 3), 255, dtype=np.uint8)
    parts = [part for frame in tall for part in (frame, gap)][:-1]
    return Image.fromarray(np.concatenate(parts, axis=1))


def main(folder: Path) -> None:
    """Write both pictures beside the video."""
    frames = read_video(folder / "video.mp4")
    strip(frames).save(folder / "strip.png", optimize=True)
    Image.fromarray(frames[0]).save(folder / "first.png")
    print(f"{folder}: strip.png, first.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
