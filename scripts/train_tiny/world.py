"""The small world: what a clip can show, and the draw of one from a seed.

A `Scene` is all that a caption says and a judge can read. Where the shapes stand and how fast they
move is not in it: the drawing takes that from the same random generator.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator

import attrs
import numpy as np

FRAMES, SIDE, FPS = 17, 64, 8

SHAPES = ("circle", "square", "triangle")
COLOURS = {
    "red": (215, 30, 35),
    "green": (30, 150, 60),
    "blue": (35, 75, 215),
    "yellow": (250, 225, 40),
    "purple": (140, 50, 190),
    "orange": (240, 125, 20),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
BACKGROUNDS = {
    "white": COLOURS["white"],
    "black": COLOURS["black"],
    "gray": (128, 128, 128),
    "blue": COLOURS["blue"],
    "green": COLOURS["green"],
    "yellow": COLOURS["yellow"],
}
SIZES = ("small", "large")
MOTIONS = ("left", "right", "up", "down", "diagonal", "still", "grow", "shrink")
PAIRS = 0.12  # share of clips with two shapes


@attrs.frozen
class Thing:
    """One shape of a scene."""

    shape: str
    colour: str
    size: str


@attrs.frozen
class Scene:
    """One thing, or two side by side (left, then right) with the same motion."""

    things: tuple[Thing, ...]
    background: str
    motion: str


def held_out(scene: Scene) -> bool:
    """Whether training never sees the scene: one in eight of (shape, colour, motion)."""
    return any(
        zlib.crc32(f"{t.shape} {t.colour} {scene.motion}".encode()) % 8 == 0 for t in scene.things
    )


def combinations() -> Iterator[Scene]:
    """Every scene with one thing."""
    every = itertools.product(SHAPES, COLOURS, SIZES, BACKGROUNDS, MOTIONS)
    for shape, colour, size, background, motion in every:
        if colour != background:
            yield Scene((Thing(shape, colour, size),), background, motion)


def draw_scene(random: np.random.Generator, *, held: bool, pairs: float = PAIRS) -> Scene:
    """Draw a scene that is held out from training, or one that is not."""
    while True:
        count = 2 if random.random() < pairs else 1
        names = [str(name) for name in random.permutation(list(COLOURS))[: count + 1]]
        background = str(random.choice(list(BACKGROUNDS)))
        names = [name for name in names if name != background][:count]
        size = "small" if count == 2 else None
        things = tuple(
            Thing(str(random.choice(SHAPES)), name, size or str(random.choice(SIZES)))
            for name in names
        )
        scene = Scene(things, background, str(random.choice(MOTIONS)))
        if held_out(scene) is held:
            return scene
