"""Masks of videos: one frame of the mask for each of the video's, in the same place."""

from __future__ import annotations

from collections.abc import Mapping

from wanflow.errors import InputError
from wanflow.files.pictures import Picture
from wanflow.files.videos import Video
from wanflow.graph import BoundGraph, Size


def check_masks(graph: BoundGraph, files: Mapping[str, Picture | Video]) -> None:
    """InputError for a mask of another length or another shape than its video."""
    for stage in graph.stages:
        video, mask = (files.get(str(stage.inputs.get(port))) for port in ("video", "mask"))
        if not isinstance(video, Video) or not isinstance(mask, Video):
            continue
        facts = [f"{v.path} has {v.times.count} frames of {Size(*v.size)}" for v in (video, mask)]
        if video.times.count != mask.times.count:
            wrong, hint = "lengths", "cut the longer one"
        elif not _are_alike(video.size, mask.size):
            wrong, hint = "shapes", "a mask may be smaller, but lies on all of the video"
        else:
            continue
        raise InputError(
            f"video and mask have different {wrong}: {', '.join(facts)}",
            hint=hint,
            code="unlike-mask",
        )


def _are_alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one is the other made larger or smaller, its sides rounded to whole pixels."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(*one, *other)
