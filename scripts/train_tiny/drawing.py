"""Draw clips: flat shapes with smooth edges on a plain background."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from scripts.train_tiny.world import BACKGROUNDS, COLOURS, FRAMES, SIDE, Scene

Floats = NDArray[np.float32]

_RADIUS = {"small": (7.0, 8.5), "large": (12.0, 14.0)}
_STEPS = {  # where a motion goes: right, down
    "left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "diagonal": (1, 1),
}  # fmt: skip
_SPREAD = 0.4  # of the room there is, how much a start may use: a small model learns places slowly
_GROWTH = 1.45  # a shape that grows goes from its radius divided by this to its radius times this
_SQUARE = 0.886  # half a side: about the circle's area
_TRIANGLE = 0.778  # the inner circle's radius: about the circle's area


@attrs.frozen
class Path:
    """Centre and radius at each frame, in pixels: arrays of `[frames]`."""

    x: Floats
    y: Floats
    radius: Floats


def coverage(shape: str, path: Path) -> Floats:
    """How much of each pixel the shape covers, 0 to 1: `[frames, side, side]`."""
    at = np.arange(SIDE, dtype=np.float32) + np.float32(0.5)
    x = at[None, None, :] - path.x[:, None, None]
    y = at[None, :, None] - path.y[:, None, None]
    radius = path.radius[:, None, None]
    if shape == "circle":
        outside = np.sqrt(x * x + y * y) - radius
    elif shape == "square":
        outside = np.maximum(np.abs(x), np.abs(y)) - radius * _SQUARE
    else:
        slope = np.abs(x) * np.float32(np.sqrt(3) / 2) - y / 2
        outside = np.maximum(slope, y) - radius * _TRIANGLE
    return np.asarray(np.clip(np.float32(0.5) - outside, 0, 1), dtype=np.float32)


def _along(random: np.random.Generator, low: float, high: float, travel: float) -> Floats:
    """A straight way of *travel* between two walls, about in the middle."""
    first = low - min(travel, 0)
    last = max(high - max(travel, 0), first)
    start = first + (last - first) * random.uniform(0.5 - _SPREAD / 2, 0.5 + _SPREAD / 2)
    return np.linspace(start, start + travel, FRAMES, dtype=np.float32)


def draw_path(random: np.random.Generator, scene: Scene, index: int) -> Path:
    """Where thing number *index* is: always whole inside the frame, or inside its half of it."""
    low, high = _RADIUS[scene.things[index].size]
    radius = np.full(FRAMES, random.uniform(low, high), dtype=np.float32)
    if scene.motion in ("grow", "shrink"):
        ends = (1 / _GROWTH, _GROWTH) if scene.motion == "grow" else (_GROWTH, 1 / _GROWTH)
        radius *= np.linspace(*ends, FRAMES, dtype=np.float32)
    if scene.motion in ("grow", "shrink") and len(scene.things) == 2:
        radius *= np.float32(0.85)
    room = float(radius.max()) * 1.57 if scene.things[index].shape == "triangle" else None
    side = (room * 0.865 if room else float(radius.max())) + 1
    above = (room or float(radius.max())) + 1
    left, right = 0.0, float(SIDE)
    if len(scene.things) == 2:
        left, right = ((0.0, SIDE / 2), (SIDE / 2, float(SIDE)))[index]
    across, down = _STEPS.get(scene.motion, (0, 0))
    far = random.uniform(20, 28)
    wide = min(far, right - left - 2 * side)
    tall = min(far, SIDE - above - float(radius.max()) - 1)
    if across and down:
        wide = tall = min(wide, tall)
    return Path(
        _along(random, left + side, right - side, across * wide),
        _along(random, above, SIDE - float(radius.max()) - 1, down * tall),
        radius,
    )


def draw(random: np.random.Generator, scene: Scene) -> NDArray[np.uint8]:
    """Draw a clip: `[frames, side, side, 3]`."""
    frames = np.empty((FRAMES, SIDE, SIDE, 3), dtype=np.float32)
    frames[:] = BACKGROUNDS[scene.background]
    for index, thing in enumerate(scene.things):
        cover = coverage(thing.shape, draw_path(random, scene, index))[..., None]
        frames += cover * (np.array(COLOURS[thing.colour], np.float32) - frames)
    return np.round(frames).astype(np.uint8)
