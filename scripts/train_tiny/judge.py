"""Read from a clip's pixels what it shows: plain image arithmetic, no learned part.

The background is the border's median colour. A shape is what differs from it; its colour is that
of its inner pixels. The shape's name is the one whose drawing, with the same centre and area,
agrees best with the pixels. The motion is what centre and area do from the first frame to the last.
"""

from __future__ import annotations

import math
from pathlib import Path as FilePath

import attrs
import numpy as np
from numpy.typing import NDArray

from scripts.train_tiny.drawing import Path, coverage
from scripts.train_tiny.world import BACKGROUNDS, COLOURS, SHAPES, SIDE

Floats = NDArray[np.float32]

_DIFFERENT = 60.0  # how far a pixel's colour is from the background's (0 to 441) where a shape is
_LEAST_AREA = 12.0  # pixels; less is no shape
_MOVES, _GROWS = 6.0, 1.8  # pixels in a clip; ratio of areas
_SLANT = 0.45  # the lesser of two directions, against the greater, in a diagonal


@attrs.frozen
class Seen:
    """What one thing looks like."""

    shape: str
    colour: str
    motion: str


@attrs.frozen
class Verdict:
    """What a clip shows: its background, and things from left to right."""

    background: str
    things: tuple[Seen, ...]


def read_video(path: FilePath) -> NDArray[np.uint8]:
    """Decode a file to `[frames, height, width, 3]`."""
    import av

    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(pictures)


def _nearest(colour: Floats, palette: dict[str, tuple[int, int, int]]) -> str:
    return min(palette, key=lambda name: math.dist(colour, palette[name]))


def _background(clip: Floats) -> Floats:
    border = [clip[:, 0], clip[:, -1], clip[:, :, 0], clip[:, :, -1]]
    return np.asarray(np.median(np.concatenate(border, axis=1), axis=(0, 1)), dtype=np.float32)


def _halves(mask: NDArray[np.bool_]) -> list[slice]:
    """The columns of each thing: two when both halves always hold one and the middle is empty."""
    middle = SIDE // 2
    left, right = mask[:, :, :middle].sum((1, 2)), mask[:, :, middle:].sum((1, 2))
    both = (left > _LEAST_AREA) & (right > _LEAST_AREA)
    touching = mask[:, :, middle - 1 : middle + 1].any((1, 2))
    if (both & ~touching).mean() > 0.8:
        return [slice(0, middle), slice(middle, SIDE)]
    return [slice(0, SIDE)]


def _inner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose four neighbours are of the shape too."""
    inner = mask.copy()
    for axis in (1, 2):
        for way in (1, -1):
            inner &= np.roll(mask, way, axis)
    return inner


def _track(cover: Floats) -> Path:
    """Centre and equivalent radius at each frame, NaN where there is no shape."""
    area = cover.sum((1, 2))
    at = np.arange(SIDE, dtype=np.float32) + np.float32(0.5)
    some = np.where(area > _LEAST_AREA / 2, area, np.nan)
    x = (cover.sum(1) * at).sum(1) / some
    y = (cover.sum(2) * at).sum(1) / some
    return Path(x, y, np.sqrt(some / np.float32(np.pi)))


def _shape(cover: Floats, track: Path) -> str:
    there = ~np.isnan(track.x)
    path = Path(track.x[there], track.y[there], track.radius[there])
    # In the drawing all shapes of a radius have about the circle's area.
    errors = {s: float(np.abs(coverage(s, path) - cover[there]).sum()) for s in SHAPES}
    return min(errors, key=errors.__getitem__)


def _motion(track: Path) -> str:
    """Name what the track does; "other" when it is none of the world's motions."""
    there = np.flatnonzero(~np.isnan(track.x))
    length = len(track.x) - 1

    def change(values: Floats) -> float:
        slope = np.polyfit(there, values[there], 1)[0]
        return float(slope) * length

    # Growth first: a radius that doubles is a change of log 2 over the clip.
    growth = change(np.log(track.radius)) * 2
    across, down = change(track.x), change(track.y)
    if abs(growth) > np.log(_GROWS) and max(abs(across), abs(down)) < 2 * _MOVES:
        return "grow" if growth > 0 else "shrink"
    if max(abs(across), abs(down)) < _MOVES:
        return "still"
    if min(abs(across), abs(down)) > _SLANT * max(abs(across), abs(down)):
        return "diagonal" if across > 0 and down > 0 else "other"
    if abs(across) > abs(down):
        return "right" if across > 0 else "left"
    return "down" if down > 0 else "up"


def _see(clip: Floats, away: Floats, background: Floats) -> Seen | None:
    mask = away > _DIFFERENT
    inner = _inner(mask)
    chosen = inner if inner.sum() >= 20 else mask
    if chosen.sum() < _LEAST_AREA:
        return None
    colour = np.asarray(np.median(clip[chosen], axis=0), dtype=np.float32)
    # How far towards the shape's colour a pixel has gone is how much of it the shape covers.
    axis = colour - background
    cover = np.clip(((clip - background) @ axis) / np.float32(axis @ axis), 0, 1)
    there = (away > _DIFFERENT / 3) & (cover > 0.15)
    soft = np.where(there, cover, 0).astype(np.float32)
    track = _track(soft)
    if (~np.isnan(track.x)).sum() < len(track.x) // 2:
        return None
    return Seen(_shape(soft, track), _nearest(colour, COLOURS), _motion(track))


def judge(clip: NDArray[np.uint8]) -> Verdict:
    """Say what a clip of `[frames, 64, 64, 3]` shows."""
    pixels = clip.astype(np.float32)
    background = _background(pixels)
    away = np.linalg.norm(pixels - background, axis=-1)
    things = []
    for columns in _halves(away > _DIFFERENT):
        only = np.zeros_like(away)
        only[:, :, columns] = away[:, :, columns]
        things.append(_see(pixels, only, background))
    seen = tuple(thing for thing in things if thing is not None)
    return Verdict(_nearest(background, BACKGROUNDS), seen)
