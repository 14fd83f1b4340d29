"""Sizes and frame counts that are like the picture or the video that an input names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wanflow.errors import InputError
from wanflow.files.pictures import Picture
from wanflow.files.videos import Video
from wanflow.graph.check import CheckedGraph
from wanflow.graph.inputs import InputSpec
from wanflow.graph.ops import MOST_FRAMES
from wanflow.graph.rules import VideoRules
from wanflow.graph.values import InputRef, Size, ValueType, parse_size
from wanflow.session.preparing.input_files import Inputs


def in_shape(
    checked: CheckedGraph,
    inputs: Inputs,
    rules: VideoRules | None,
    files: Mapping[str, Picture | Video],
    *,
    any_shape: bool = False,
) -> dict[str, str | int | float | Size]:
    """Give inputs the shape of the files that they are to be like; without one they stay.

    A size is the area. InputError where someone gave another size or frame count than the video
    leads to; *any_shape* allows a size that is meant as an area.
    """
    specs, values = checked.spec.inputs, dict(inputs)
    rules = rules or VideoRules()
    for like in {spec.like: None for spec in specs.values() if spec.like}:
        opened = files.get(str(inputs.get(like, specs[like].default or "") or ""))
        alike = [spec for spec in specs.values() if spec.like == like]
        if isinstance(opened, Picture):
            areas = {spec.name: _area(spec, inputs) for spec in alike}
            for name, area in areas.items():
                shape = rules.in_crop if _is_cropped(checked, name) else rules.in_shape
                if area is not None:
                    values[name] = shape(area, *opened.size)
        elif isinstance(opened, Video):
            count = min(f.times.count for f in files.values() if isinstance(f, Video))
            values.update(_like_video(alike, inputs, rules, opened, count, any_shape=any_shape))
    return values


def _like_video(
    alike: Iterable[InputSpec],
    inputs: Inputs,
    rules: VideoRules,
    video: Video,
    count: int,
    *,
    any_shape: bool,
) -> dict[str, Size | int]:
    by_type = {spec.type: spec for spec in alike}
    size, frames = by_type.get(ValueType.SIZE), by_type.get(ValueType.INT)
    area = _area(size, inputs) if size is not None else Size(*video.size)
    asked = _number(frames, inputs)
    if area is None or asked is None:  # what is none is told where it is bound
        return {}
    most = asked if frames is not None and frames.name in inputs else MOST_FRAMES
    shaped = rules.in_video(area, asked, video.size, count, most)
    if shaped is None:
        raise InputError(
            f"{video.path}: is {Size(*video.size)}, at least "
            f"{Size(rules.size_multiple, rules.size_multiple)} is wanted",
            code="small-video",
        )
    values: dict[str, Size | int] = {}
    follow: tuple[Size | int, ...] = shaped
    for spec, given, follows in zip((size, frames), (area, asked), follow, strict=True):
        if spec is None:
            continue
        values[spec.name] = follows
        is_free = any_shape and spec is size
        if spec.name in inputs and given != follows and not is_free:
            raise InputError(
                f"input '{spec.name}' is {given}, and of {video.path} ({count} frames of "
                f"{Size(*video.size)}) it is {follows}",
                hint=f"leave it out, or give {follows}",
                code="unlike-video",
            )
    return values


def _is_cropped(checked: CheckedGraph, size: str) -> bool:
    """Whether pictures are cropped to the size of this name."""
    stages = checked.spec.stages.values()
    users = [s for s in stages if "size" in s.inputs and s.inputs["size"].value == InputRef(size)]
    return any("fit" in s.params and s.params["fit"].value == "crop" for s in users)


def _area(spec: InputSpec, inputs: Inputs) -> Size | None:
    value = inputs.get(spec.name, spec.default or "")
    return value if isinstance(value, Size) else parse_size(str(value))


def _number(spec: InputSpec | None, inputs: Inputs) -> int | None:
    if spec is None:
        return MOST_FRAMES
    text = str(inputs.get(spec.name, spec.default)).strip()
    return int(text) if text.isdecimal() and int(text) > 0 else None
