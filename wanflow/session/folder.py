"""The run folder: made without overwriting anything by accident; small files appear whole."""

from __future__ import annotations

import datetime
import errno
import json
import os
from contextlib import suppress
from pathlib import Path

from wanflow.errors import InputError, StageFailed

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def make_folder(out: Path | None, graph: str, *, force: bool) -> Path:
    """Make the folder of a run; one that holds anything is refused without *force*."""
    if out is None:
        stamp = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        out = _unused(Path("runs") / f"{graph}-{stamp}")
    try:
        if out.exists() and not out.is_dir():
            raise InputError(f"--out {out}: is a file", code="out-exists")
        if out.is_dir() and any(out.iterdir()) and not force:
            raise InputError(
                f"--out {out}: is not empty",
                hint="choose another, or add --force",
                code="out-exists",
            )
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error, code="out-unwritable", what="--out ") from None
    return out


def _unused(folder: Path) -> Path:
    """Two runs may start in the same second."""
    numbers = (folder.with_name(f"{folder.name}-{n}") for n in range(2, 1000))
    return folder if not folder.exists() else next(p for p in numbers if not p.exists())


def unwritable(
    path: Path, error: OSError, *, code: str = "write-failed", what: str = ""
) -> StageFailed:
    """Say that nothing could be written there, and what may help."""
    hint = "free some space" if error.errno in FULL else ""
    reason = error.strerror or str(error) or type(error).__name__
    return StageFailed(f"{what}{path}: {reason}", hint=hint, code=code)


def write_json(path: Path, data: object) -> None:
    """Write a file beside, sync it and rename it over *path*; StageFailed when the disk is full."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise unwritable(path, error) from None


def _sync_folder(folder: Path) -> None:
    """Bring a renaming to the disk: what the new file replaces may be removed after it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
