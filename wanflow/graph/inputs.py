"""The inputs that keep their names in every graph, and the declaration of one."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from wanflow.graph.ops import LARGEST_SEED, MOST_FRAMES, OPS
from wanflow.graph.source import Mark
from wanflow.graph.values import Value, ValueType
from wanflow.graph.wanted import Rule, Wanted

# The types an input may be declared with; the others are for params only.
INPUT_TYPES = (
    ValueType.TEXT, ValueType.SIZE, ValueType.INT, ValueType.FLOAT, ValueType.IMAGE,
    ValueType.VIDEO, ValueType.IMAGES,
)  # fmt: skip
# Paths of files that the user has.
FILE_TYPES = (ValueType.IMAGE, ValueType.VIDEO, ValueType.IMAGES)


@attrs.frozen(kw_only=True)
class InputSpec(Wanted):
    """An input of a graph; the built-in ones have no mark."""

    name: str
    default: Value | None = None
    about: str = ""
    like: str = ""  # the input whose picture or video says the shape, or how many frames
    mark: Mark | None = None
    default_mark: Mark | None = None

    @property
    def required(self) -> bool:
        """Say whether the user must give a value."""
        return self.default is None


def _number(name: str, kind: ValueType, default: float, low: float, high: float) -> InputSpec:
    about = _ABOUT[name]
    return InputSpec(
        name=name, type=kind, default=default, minimum=low, maximum=high, about=about,
        rule=Rule.FRAMES if name == "frames" else Rule.NONE,
    )  # fmt: skip


_DENOISE = OPS["denoise"].params
_ABOUT = {
    "frames": "Frames of the video, 4n+1.",
    "steps": _DENOISE["steps"].about,
    "guidance": _DENOISE["guidance"].about,
    "shift": _DENOISE["shift"].about,
    "guidance_high": "Guidance of the expert for much noise, the first steps.",
    "guidance_low": "Guidance of the expert for little noise, the last steps.",
    "boundary": "The share of noise at which the first expert hands over to the second.",
    "strength": _DENOISE["strength"].about,
    "control_scale": _DENOISE["control_scale"].about,
    "seed": "The same seed gives the same video.",
    "fps": OPS["write_video"].params["fps"].about,
}

_STANDARD = (
    InputSpec(name="prompt", type=ValueType.TEXT, about="What the video shows."),
    InputSpec(
        name="negative_prompt", type=ValueType.TEXT, default="", about="What it must not show."
    ),
    InputSpec(
        name="size", type=ValueType.SIZE, rule=Rule.SIZE, about="Width*height in pixels, 832*480."
    ),
    _number("frames", ValueType.INT, 81, 1, MOST_FRAMES),
    _number("steps", ValueType.INT, 50, 1, 1000),
    _number("guidance", ValueType.FLOAT, 5.0, 0, 100),
    _number("shift", ValueType.FLOAT, 5.0, 0.01, 100),
    _number("guidance_high", ValueType.FLOAT, 5.0, 0, 100),
    _number("guidance_low", ValueType.FLOAT, 5.0, 0, 100),
    _number("boundary", ValueType.FLOAT, 0.875, 0, 1),
    _number("strength", ValueType.FLOAT, 0.8, 0, 1),
    _number("control_scale", ValueType.FLOAT, 1.0, 0, 10),
    _number("seed", ValueType.INT, 0, 0, LARGEST_SEED),
    _number("fps", ValueType.FLOAT, 16.0, 1, 240),
    InputSpec(name="image", type=ValueType.IMAGE, about="A picture file: the first frame."),
    InputSpec(name="last_image", type=ValueType.IMAGE, about="A picture file: the last frame."),
    InputSpec(name="video", type=ValueType.VIDEO, about="A video file: the frames to start from."),
    InputSpec(name="mask", type=ValueType.VIDEO, about="A video file: white is made anew."),
    InputSpec(
        name="reference_images",
        type=ValueType.IMAGES,
        about="Picture files, with commas between: what is to be seen.",
    ),
)

STANDARD: Mapping[str, InputSpec] = {spec.name: spec for spec in _STANDARD}
