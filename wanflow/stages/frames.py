"""From a chunk of frames to bytes on the host, as the writers need them."""

from __future__ import annotations

import torch

from wanflow.scheduler.program import Call, Tensors
from wanflow.stages.base import StageSetup


def to_levels(frames: torch.Tensor) -> torch.Tensor:
    """Round values in [0, 1] to uint8; what is uint8 stays as it is.

    The rounding is diffusers' (`VaeImageProcessor.pt_to_numpy`, `numpy_to_pil`).
    """
    if frames.dtype == torch.uint8:
        return frames
    return (frames.float() * 255).round().to(torch.uint8)


def to_picture_levels(frames: torch.Tensor) -> torch.Tensor:
    """Do the same with halves rounded up: `torchvision.utils.save_image`, for Wan's pictures."""
    if frames.dtype == torch.uint8:
        return frames
    return (frames.float() * 255).add_(0.5).clamp_(0, 255).to(torch.uint8)


def to_bytes(frames: torch.Tensor, *, picture: bool = False) -> torch.Tensor:
    """Give `[n, 3, H, W]`, in [0, 1] or uint8, as uint8 `[n, H, W, 3]` on the CPU."""
    levels = to_picture_levels(frames) if picture else to_levels(frames)
    return levels.permute(0, 2, 3, 1).contiguous().cpu()


def bytes_call(setup: StageSetup, chunk: int) -> Call:
    """The call that makes a writer's own uint8 copy of chunk number *chunk* (from 1)."""
    frames, copy = setup.source("frames"), setup.own("bytes")
    picture = setup.bound.op.name == "write_picture"

    def run(values: Tensors) -> Tensors:
        return {copy: to_bytes(values[frames], picture=picture)}

    return Call(f"bytes.{min(chunk, 2)}", run, (frames,), step=chunk - 1, chunk=chunk)
