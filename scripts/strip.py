"""Put every other frame of a video side by side in one picture.

Usage: python scripts/strip.py VIDEO.mp4 PICTURE.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

_EVERY, _SCALE, _GAP = 2, 2, 4  # frames; times as large; white pixels between


def strip(video: Path) -> Image.Image:
    """Give the picture: frames twice as large, edges kept hard."""
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    tall = [frame.repeat(_SCALE, 0).repeat(_SCALE, 1) for frame in frames[::_EVERY]]
    gap = np.full((tall[0].shape[0], _GAP, 3), 255, dtype=np.uint8)
    parts = [part for frame in tall for part in (frame, gap)][:-1]
    return Image.fromarray(np.concatenate(parts, axis=1))


if __name__ == "__main__":
    made = strip(Path(sys.argv[1]))
    made.save(sys.argv[2], optimize=True)
    print(f"{sys.argv[2]}: {made.width}x{made.height}")
