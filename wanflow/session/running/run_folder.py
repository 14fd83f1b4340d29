"""The run folder, made without overwriting anything by accident."""

from __future__ import annotations

import datetime
from pathlib import Path

from wanflow.errors import InputError
from wanflow.files.whole import make_folders, unwritable


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
        make_folders(out)
    except OSError as error:
        raise unwritable(out, error, code="out-unwritable", what="--out ") from None
    return out


def _unused(folder: Path) -> Path:
    """Two runs may start in the same second."""
    numbers = (folder.with_name(f"{folder.name}-{n}") for n in range(2, 1000))
    return folder if not folder.exists() else next(p for p in numbers if not p.exists())
