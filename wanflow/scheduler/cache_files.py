"""Files that may be lost: each appears whole, tells damage by a digest, and goes when space is due.

A file is a magic line, a digest of the rest, the rest. Whatever is not as it was written reads as
nothing. No torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import attrs

_DIGEST_BYTES = hashlib.sha256().digest_size


@attrs.frozen
class Held:
    """What lies in a cache."""

    path: str
    files: int
    nbytes: int


def held(path: Path) -> Held:
    """Count what lies in the folder *path*."""
    sizes = [size for _, size, _ in _files(path)]
    return Held(str(path), len(sizes), sum(sizes))


def prune(path: Path, nbytes: int, files: int) -> None:
    """Remove the files used longest ago until *nbytes* and *files* are left at most."""
    found = sorted(_files(path), reverse=True)
    total = 0
    for number, (_, size, name) in enumerate(found, 1):
        total += size
        if number > files or total > nbytes:
            with contextlib.suppress(OSError):
                name.unlink()


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


def write(path: Path, magic: bytes, body: bytes | memoryview) -> None:
    """Let *path* hold *body*: another process sees the old file or the new one; OSError."""
    handle, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(head(magic, body))
            file.write(body)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _files(path: Path) -> list[tuple[float, int, Path]]:
    """Give time, size and path of each file, the leftovers of a killed process too."""
    found = []
    with contextlib.suppress(OSError):
        for each in path.iterdir():
            with contextlib.suppress(OSError):
                about = each.lstat()
                found.append((about.st_mtime, about.st_size, each))
    return found
