"""Files that a graph's inputs name: that they are pictures and videos, and still the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from wanflow.errors import InputError
from wanflow.graph.check import CheckedGraph
from wanflow.graph.inputs import FILE_TYPES
from wanflow.graph.rules import VideoRules
from wanflow.graph.values import Size, ValueType, parse_size

_CHUNK_BYTES = 1 << 20

Inputs = Mapping[str, str | int | float | Size]


def absolute(checked: CheckedGraph, inputs: Inputs) -> dict[str, str | int | float | Size]:
    """Make the paths among *inputs* ones that hold in every folder, and `~` the home folder."""
    files = files_of(checked)
    return {
        name: str(Path(str(value)).expanduser().absolute()) if name in files and value else value
        for name, value in inputs.items()
    }


def files_of(checked: CheckedGraph) -> dict[str, ValueType]:
    """Name the inputs of a graph that are files, each with its type."""
    return {n: spec.type for n, spec in checked.spec.inputs.items() if spec.type in FILE_TYPES}


def in_shape(
    checked: CheckedGraph, inputs: Inputs, rules: VideoRules | None
) -> dict[str, str | int | float | Size]:
    """Give sizes the shape of the pictures that they are to be like; without one they stay."""
    values = dict(inputs)
    for name, spec in checked.spec.inputs.items():
        path = str(inputs.get(spec.like) or "")
        if not spec.like or not path:
            continue
        check_file(spec.like, ValueType.IMAGE, Path(path))
        value = inputs.get(name, spec.default or "")
        area = value if isinstance(value, Size) else parse_size(str(value))
        if area is not None:  # what is no size is told where it is bound
            values[name] = (rules or VideoRules()).in_shape(area, *_measure(path))
    return values


def _measure(path: str) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.size


def check_file(name: str, kind: ValueType, path: Path) -> None:
    """InputError when a file is not there or no picture or video by its first bytes."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"input '{name}': {path}: {what}", code="missing-file")
    if kind is ValueType.IMAGE:
        _check_picture(name, path)
        return
    import av

    try:
        with av.open(str(path)) as container:
            if container.streams.video:
                return
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"input '{name}': {path}: no video: {error}", code="bad-video") from None
    raise InputError(f"input '{name}': {path}: has no pictures", code="bad-video")


def _check_picture(name: str, path: Path) -> None:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.verify()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"input '{name}': {path}: no picture: {error}", code="bad-image") from None


def content(path: Path) -> str:
    """Give a short hash of a file's bytes; InputError when it can't be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", code="missing-file") from None
    return digest.hexdigest()[:16]
