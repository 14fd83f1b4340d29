"""The ops' code: one file each. `make_program` turns a bound stage into a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wanflow.scheduler.program import Program
from wanflow.stages.base import LatentSpace, StageSetup, Surroundings
from wanflow.stages.decode_frames import DecodeFrames
from wanflow.stages.denoise import Denoise
from wanflow.stages.encode_frames import EncodeFrames
from wanflow.stages.encode_image import EncodeImage
from wanflow.stages.encode_text import EncodeText
from wanflow.stages.noise import Noise
from wanflow.stages.write_frames import WriteFrames
from wanflow.stages.write_video import WriteVideo

__all__ = ["LatentSpace", "StageSetup", "Surroundings", "make_program"]

_MAKERS: Mapping[str, Callable[[StageSetup], Program]] = {
    "encode_text": EncodeText,
    "encode_image": EncodeImage,
    "encode_frames": EncodeFrames,
    "noise": Noise,
    "denoise": Denoise,
    "decode_frames": DecodeFrames,
    "write_video": WriteVideo,
    "write_frames": WriteFrames,
}


def make_program(setup: StageSetup) -> Program:
    """Return the program of a bound stage."""
    return _MAKERS[setup.bound.op.name](setup)
