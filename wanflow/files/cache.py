"""Files that may be lost: each appears whole, tells damage by a digest, and goes when space is due.

A file is a magic line, a digest of the rest, the rest. Whatever is not as it was written reads as
nothing. No torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import attrs
import msgpack

from wanflow.files.whole import writing
from wanflow.remarks import remark

FOLDER_BYTES = 64 * 2**20  # of a whole folder of packed values
FOLDER_FILES = 1024
LARGEST_BYTES = 8 * 2**20  # of a file of packed values
MAGIC = b"wanflow kinds 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size


@attrs.define
class Store:
    """Packed values by their keys in one file: read at the first look, written by `keep`.

    Two processes may add to a file at once: what one of them added may have to be made again.
    """

    path: Path
    _values: dict[bytes, bytes] | None = attrs.field(default=None, init=False)
    _new: dict[bytes, bytes] = attrs.field(factory=dict, init=False)

    def find(self, key: bytes) -> bytes | None:
        """Look a value up."""
        if self._values is None:
            self._values = read_map(self.path)
        packed = self._values.get(key)
        return packed if isinstance(packed, bytes) else None

    def add(self, key: bytes, packed: bytes) -> None:
        """Remember a value until `keep`."""
        self._new[key] = packed

    def keep(self) -> None:
        """Write what was added, beside what another process has added since."""
        if self._new:
            values = {**read_map(self.path), **self._new}
            put(self.path, MAGIC, msgpack.packb(values), FOLDER_BYTES, FOLDER_FILES)
            self._new.clear()
        elif self._values is not None:
            used(self.path)


@attrs.frozen
class CacheSize:
    """What lies in a cache."""

    path: str
    files: int
    nbytes: int


def held(path: Path) -> CacheSize:
    """Count what lies in the folder *path*."""
    sizes = [size for _, size, _ in _files(path)]
    return CacheSize(str(path), len(sizes), sum(sizes))


def prune(path: Path, nbytes: int, files: int) -> None:
    """Remove the files used longest ago until *nbytes* and *files* are left at most."""
    total = 0
    for number, (_, size, file) in enumerate(sorted(_files(path), reverse=True), 1):
        total += size
        if number > files or total > nbytes:
            with contextlib.suppress(OSError):
                file.unlink()


def used(path: Path) -> None:
    """Have a file count as used now: it goes last."""
    with contextlib.suppress(OSError):
        os.utime(path)


def head(magic: bytes, body: bytes | memoryview) -> bytes:
    """Give what stands in front of *body* in its file."""
    return magic + hashlib.sha256(body).digest()


def head_bytes(magic: bytes) -> int:
    """How many bytes stand in front of the body."""
    return len(magic) + _DIGEST_BYTES


def body_of(content: bytes, magic: bytes) -> bytes | None:
    """Give the body out of a file's content; None where it is not as it was written."""
    body = content[head_bytes(magic) :]
    return body if content[: head_bytes(magic)] == head(magic, body) else None


def digest(identity: object) -> bytes:
    """Digest plain data: all that decides what lies under a name or a key."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).digest()


def put(path: Path, magic: bytes, body: bytes | memoryview, nbytes: int, files: int) -> None:
    """Let *path* hold *body*, then prune its folder; a disk that won't take it is a remark."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, magic, body)
        prune(path.parent, nbytes, files)
    except OSError as error:
        remark("nothing is kept for the next time", f"{path.parent}: {error.strerror}")


def write(path: Path, magic: bytes, body: bytes | memoryview) -> None:
    """Let *path* hold *body*: another process sees the old file or the new one; OSError."""
    with (
        writing(path, shared=True, mode=0o600, sync=False) as part,
        part.open("wb") as file,
    ):
        file.write(head(magic, body))
        file.write(body)


def _files(path: Path) -> list[tuple[float, int, Path]]:
    """Give time, size and path of each file, the leftovers of a killed process too."""
    rows = []
    with contextlib.suppress(OSError):
        for file in path.iterdir():
            with contextlib.suppress(OSError):
                about = file.lstat()
                rows.append((about.st_mtime, about.st_size, file))
    return rows


def plain(packed: bytes) -> Any:
    """Unpack plain values; ValueError where they are none."""
    return msgpack.unpackb(packed, use_list=False, strict_map_key=False)


def read_map(path: Path) -> dict[bytes, bytes]:
    """Read the packed values of a file by their keys; none where there is no such file or worse."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError:
        return {}
    body = None if len(content) > LARGEST_BYTES else body_of(content, MAGIC)
    if body is None:
        return {}
    with contextlib.suppress(ValueError):
        values = plain(body)
        if isinstance(values, dict):
            return values
    return {}
