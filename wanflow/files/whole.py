"""Files that appear whole: written beside, synced, renamed. Nothing half-written is left."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from wanflow.errors import StageFailed

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FREE_SPACE = "free some space"  # what every error says whose reason may be a full disk


def unwritable(
    path: Path, error: OSError, *, code: str = "write-failed", what: str = ""
) -> StageFailed:
    """Say that nothing could be written there, and what may help."""
    hint = FREE_SPACE if error.errno in FULL else ""
    reason = error.strerror or str(error) or type(error).__name__
    return StageFailed(f"{what}{path}: {reason}", hint=hint, code=code)


def unreadable(path: Path, error: OSError) -> StageFailed:
    """Say that a file of ours is there and can't be read now: it may be whole."""
    reason = error.strerror or str(error) or type(error).__name__
    return StageFailed(
        f"{path}: can't be read: {reason}",
        hint="it may be whole: try again once it can be read",
        code="unreadable",
    )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name *path* in an OSError of the block that names no file: a handle's write knows none."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


@contextmanager
def writing(
    path: Path,
    *,
    shared: bool = False,
    mode: int = 0o666,
    sync: bool = True,
    sync_folder: bool = True,
) -> Iterator[Path]:
    """Lend a name beside *path* for a file that replaces *path* once the block ends well.

    Until then *path* is as it was, and of what failed nothing is left. With *sync* the bytes are on
    the disk before that, and with *sync_folder* the name after it. Where several processes may
    write *path* it is *shared*: the file lent has a name that no other has, and is there with
    *mode*. OSError.
    """
    name = f".{path.name[:60]}.{token_hex(4)}.part" if shared else f"{path.name}.part"
    part = path.with_name(name)
    try:
        if shared:
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
        yield part
        if sync:
            _sync(part, os.O_RDONLY)
        part.replace(path)
        if sync and sync_folder and not shared:  # what it replaces may be removed after this
            _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def write_json(path: Path, data: object) -> None:
    """Have *path* hold *data*, or what it held before; StageFailed when the disk is full.

    What is no character, as half of one in a file's name, is escaped as JSON does.
    """
    try:
        with (
            writing(path) as part,
            part.open("w", encoding="utf-8", errors="backslashreplace") as file,
        ):
            json.dump(data, file, ensure_ascii=False, indent=1)
            file.write("\n")
    except OSError as error:
        raise unwritable(path, error) from None


def sync_file(path: Path) -> None:
    """Bring a file's bytes to the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk: which files it has, not what is in them."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def make_folders(path: Path) -> None:
    """Have a folder, and those above it; what was made is there after a power cut. OSError."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(made):
        sync_folder(folder.parent)


def replace_synced(part: Path, path: Path) -> None:
    """Give *part*, a file or a folder of files, the name *path*; all of it is on the disk. OSError.

    What is written after this may say that *path* is there.
    """
    for file in part.iterdir() if part.is_dir() else ():
        sync_file(file)
    sync_file(part)
    part.replace(path)
    sync_folder(path.parent)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags | os.O_CLOEXEC)
    try:
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)
