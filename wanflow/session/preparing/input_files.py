"""Files that a graph's inputs name: read once, shown right, and known again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from wanflow.errors import InputError
from wanflow.files.pictures import Picture, read_picture
from wanflow.files.videos import Video, open_video
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


def open_files(
    checked: CheckedGraph, inputs: Inputs, *, to_run: bool
) -> dict[str, Picture | Video]:
    """Read the files that inputs name, by path; InputError for one that can't be shown.

    A plan does without those that only the graph names.
    """
    files: dict[str, Picture | Video] = {}
    for name, kind in files_of(checked).items():
        default = checked.spec.inputs[name].default if to_run else None
        path = str(inputs.get(name, default or "") or "")
        if path and path not in files:
            files[path] = open_file(name, kind, Path(path))
    return files


def open_file(name: str, kind: ValueType, path: Path) -> Picture | Video:
    """Read a picture or look through a video; InputError names the input, the path and why."""
    who = f"input '{name}': "
    if not path.is_file():
        what = "no such file"
        if path.exists():
            what = "is a folder" if path.is_dir() else "is no ordinary file"
        raise InputError(f"{who}{path}: {what}", code="missing-file")
    return read_picture(path, who) if kind is ValueType.IMAGE else open_video(path, who)


def in_shape(
    checked: CheckedGraph,
    inputs: Inputs,
    rules: VideoRules | None,
    files: Mapping[str, Picture | Video],
) -> dict[str, str | int | float | Size]:
    """Give sizes the shape of the pictures that they are to be like; without one they stay."""
    values = dict(inputs)
    for name, spec in checked.spec.inputs.items():
        picture = files.get(str(inputs.get(spec.like) or "")) if spec.like else None
        if not isinstance(picture, Picture):
            continue
        value = inputs.get(name, spec.default or "")
        area = value if isinstance(value, Size) else parse_size(str(value))
        if area is not None:  # what is no size is told where it is bound
            values[name] = (rules or VideoRules()).in_shape(area, *picture.size)
    return values


def notes_of(inputs: Inputs, files: Mapping[str, Picture | Video]) -> list[str]:
    """Say what of the pictures is not shown, each with its input."""
    pictures = {name: files.get(str(path)) for name, path in inputs.items()}
    return [
        f"{name}: {note}"
        for name, picture in pictures.items()
        if isinstance(picture, Picture)
        for note in picture.notes
    ]


def content(opened: Picture | Video | None, path: Path) -> str:
    """Give a short hash of a file's bytes, of those that were read; InputError when none can be."""
    if isinstance(opened, Picture):
        return opened.digest[:16]
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", code="missing-file") from None
    return digest.hexdigest()[:16]
