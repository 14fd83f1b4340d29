"""Files that appear whole: written beside, synced, renamed."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path

from wanflow.errors import StageFailed

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
