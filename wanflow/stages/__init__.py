"""The ops' code: one file each. `make_program` turns a bound stage into a program."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from wanflow.scheduler.program import Program
from wanflow.stages.base import LatentSpace, StageSetup, Surroundings

__all__ = ["LatentSpace", "StageSetup", "Surroundings", "make_program"]

# An op's module is imported with its first program: with it come the upstream models.
_PROGRAMS = {
    "encode_text": "EncodeText",
    "encode_image": "EncodeImage",
    "encode_frames": "EncodeFrames",
    "noise": "Noise",
    "denoise": "Denoise",
    "decode_frames": "DecodeFrames",
    "write_video": "WriteVideo",
    "write_frames": "WriteFrames",
}


def make_program(setup: StageSetup) -> Program:
    """Return the program of a bound stage."""
    op = setup.bound.op.name
    return cast("Program", getattr(import_module(f"wanflow.stages.{op}"), _PROGRAMS[op])(setup))
