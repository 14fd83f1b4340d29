"""Files below one folder, opened name by name: no link is followed, so that none leads out."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_JSON_BYTES = 64 * 2**20

Parts = tuple[str, ...]
"""The way from the root to a folder, a name each."""


@attrs.frozen
class Tree:
    """The folder that is looked into. It may itself be reached by links: it was named by a user."""

    root: Path

    @contextmanager
    def folder(self, parts: Parts) -> Iterator[int]:
        """Lend the handle of a folder; OSError where there is none, or where a link is on the way.

        ValueError for what is no name of a file: such come from nobody but ourselves.
        """
        handle = os.open(self.root, _FOLDER)
        try:
            for part in parts:
                inner = os.open(_name(part), _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = inner
            yield handle
        finally:
            os.close(handle)

    def open_file(self, parts: Parts, name: str) -> int:
        """Open a regular file to read; OSError for anything else, ValueError as `folder`."""
        with self.folder(parts) as folder:
            return open_in(folder, name)


def open_in(folder: int, name: str) -> int:
    """Open a regular file of an open folder; OSError for anything else."""
    handle = os.open(_name(name), _FILE, dir_fd=folder)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise FileNotFoundError(f"{name}: is no file")


def json_in(folder: int, name: str) -> dict[str, Any]:
    """Read an object from a JSON file of an open folder; an empty one where there is none."""
    try:
        handle = open_in(folder, name)
    except OSError:
        return {}
    with os.fdopen(handle, "rb") as file:
        return json_of(file.read(_MOST_JSON_BYTES + 1))


def json_of(data: bytes) -> dict[str, Any]:
    """Read an object from JSON that anybody wrote; an empty one for anything else."""
    if len(data) > _MOST_JSON_BYTES:
        return {}
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def path_of(handle: int) -> Path:
    """Give a path by which an open file is opened again, whatever its name leads to by now."""
    return Path(f"/proc/self/fd/{handle}")


def _name(part: str) -> str:
    if part in ("", ".", "..") or "/" in part or "\0" in part:
        raise ValueError(f"{part!r} is no name of a file")
    return part
