"""Files that a graph's inputs name: read once, shown right, and known again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from wanflow.errors import InputError
from wanflow.files.pictures import Picture, read_picture
from wanflow.files.videos import Video, open_video
from wanflow.graph.check import CheckedGraph
from wanflow.graph.inputs import FILE_TYPES
from wanflow.graph.values import Size, ValueType, parse_paths

_CHUNK_BYTES = 1 << 20

Inputs = Mapping[str, str | int | float | Size]


def absolute(checked: CheckedGraph, inputs: Inputs) -> dict[str, str | int | float | Size]:
    """Make the paths among *inputs* ones that hold in every folder, and `~` the home folder."""
    files = files_of(checked)
    return {
        name: ",".join(
            str(Path(path).expanduser().absolute()) for path in paths_of(files[name], value)
        )
        if name in files
        else value
        for name, value in inputs.items()
    }


def files_of(checked: CheckedGraph) -> dict[str, ValueType]:
    """Name the inputs of a graph that are files, each with its type."""
    return {n: spec.type for n, spec in checked.spec.inputs.items() if spec.type in FILE_TYPES}


def paths_of(kind: ValueType, value: object) -> tuple[str, ...]:
    """The paths that an input of files names; none where it is left out."""
    text = str(value or "")
    if kind is ValueType.IMAGES:
        return parse_paths(text)
    return (text,) if text else ()


def open_files(
    checked: CheckedGraph, inputs: Inputs, *, to_run: bool
) -> dict[str, Picture | Video]:
    """Read the files that inputs name, by path; InputError for one that can't be shown.

    A plan does without those that only the graph names, and without any that are not here.
    """
    files: dict[str, Picture | Video] = {}
    for name, kind in files_of(checked).items():
        default = checked.spec.inputs[name].default if to_run else None
        for path in paths_of(kind, inputs.get(name, default)):
            if path not in files and (to_run or Path(path).exists()):
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
    return open_video(path, who) if kind is ValueType.VIDEO else read_picture(path, who)


def notes_of(inputs: Inputs, files: Mapping[str, Picture | Video]) -> list[str]:
    """Say what of the files is not shown, each with its input."""
    paths = [(n, path) for n, v in inputs.items() for path in {str(v), *parse_paths(str(v))}]
    opened = [(name, files[path]) for name, path in paths if path in files]
    return [f"{name}: {note}" for name, file in opened for note in _notes(file, inputs)]


def _notes(file: Picture | Video, inputs: Inputs) -> Sequence[str]:
    if isinstance(file, Picture):
        return file.notes
    frames, size, own = inputs.get("frames"), inputs.get("size"), Size(*file.size)
    if frames is None or size is None or (frames, size) == (file.times.count, own):
        return ()
    return (f"{frames} of its {file.times.count} frames of {own} are used, at {size}",)


def absent(
    kinds: Mapping[str, ValueType], inputs: Inputs, files: Mapping[str, Picture | Video]
) -> list[str]:
    """Say which of the files that *inputs* name a plan went without, and how it counts them."""
    return [
        f"{name}: {path} is not here: planned as one that fits the size and the frames asked for"
        for name, kind in kinds.items()
        for path in paths_of(kind, inputs.get(name))
        if path not in files
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
