"""Clips to fit a preview map on: soft colours of every size with hard shapes in them, which drift.

They are drawn, from a seed, so that anybody fits the same map from the same weights.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from wanflow.stages.video_file import VideoFile

FRAMES = 5  # of a clip
_GRIDS = (2, 3, 6, 12, 24, 48)  # cells of noise along a side; the share of each is its inverse
_SHAPES = 14
_DRIFT = 2  # pixels a frame

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def write_clip(path: Path, seed: int, side: int) -> Path:
    """Draw a clip of *side* pixels into the video file *path*."""
    sink = VideoFile(path, Fraction(8), None)
    try:
        sink.write(clip_of(seed, side))
        sink.finish()
    finally:
        sink.close()
    return path


def clip_of(seed: int, side: int) -> Pixels:
    """Draw a clip: `[frames, side, side, 3]`."""
    random = np.random.default_rng(seed)
    whole = side + _DRIFT * FRAMES
    picture = Image.fromarray(_soft(random, whole))
    pen = ImageDraw.Draw(picture)
    for number in range(_SHAPES):
        x, y, reach = random.uniform((0, 0, 0.03 * whole), (whole, whole, 0.16 * whole))
        red, green, blue = (int(level) for level in random.integers(0, 256, 3))
        box = (x - reach, y - reach, x + reach, y + reach * random.uniform(0.4, 1))
        (pen.ellipse if number % 2 else pen.rectangle)(box, fill=(red, green, blue))
    pixels = np.asarray(picture)
    across, down = (int(step) * _DRIFT for step in random.integers(0, 2, 2))
    corners = ((frame * down, frame * across) for frame in range(FRAMES))
    return np.stack([pixels[y : y + side, x : x + side] for y, x in corners])


def _soft(random: np.random.Generator, side: int) -> Pixels:
    """Colours that change over long ways most, over short ones less, as those of pictures do."""
    total = np.zeros((side, side, 3))
    for cells in _GRIDS:
        levels = random.standard_normal((cells, cells, 3)).astype(np.float32) / cells
        channels = [Image.fromarray(levels[..., channel]) for channel in range(3)]
        grown = [np.asarray(c.resize((side, side), Image.Resampling.BICUBIC)) for c in channels]
        total += np.stack(grown, -1)
    bright, spread = random.uniform(0.3, 0.7), random.uniform(0.15, 0.3)
    return np.asarray((total / total.std() * spread + bright).clip(0, 1) * 255, dtype=np.uint8)
