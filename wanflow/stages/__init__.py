"""The ops' code: a file each, and one for all that write. `make_program` makes an op's program."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from wanflow.scheduler.program import Program
from wanflow.stages.base import LatentSpace, StageSetup, Surroundings

__all__ = ["LatentSpace", "StageSetup", "Surroundings", "make_program"]

# An op's module is imported with its first program: with it come the upstream models.
_PROGRAMS = {
    "encode_text": "encode_text.EncodeText",
    "encode_image": "encode_image.EncodeImage",
    "encode_frames": "encode_frames.EncodeFrames",
    "encode_control": "encode_control.EncodeControl",
    "noise": "noise.Noise",
    "denoise": "denoise.Denoise",
    "decode_frames": "decode_frames.DecodeFrames",
    "write_video": "write.WriteFrames",
    "write_frames": "write.WriteFrames",
    "write_picture": "write.WriteFrames",
}


def make_program(setup: StageSetup) -> Program:
    """Return the program of a bound stage."""
    module, _, name = _PROGRAMS[setup.bound.op.name].partition(".")
    return cast("Program", getattr(import_module(f"wanflow.stages.{module}"), name)(setup))
