"""The run folder, made without overwriting anything by accident."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from wanflow.errors import InputError
from wanflow.files.whole import make_folders, unreadable, unwritable


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


def check_links(folder: Path, *, deep: bool = True) -> None:
    """InputError where what is written into *folder* would be written elsewhere, by a link in it.

    A folder that comes from somebody else may have one. *deep* looks into its folders too.
    """
    try:
        with os.scandir(folder) as scanned:
            entries = [*scanned]
        for entry in entries:
            if entry.is_symlink():
                raise InputError(
                    f"{entry.path}: is a link, and what a run writes stays in its folder",
                    hint="take the link away, or choose another folder",
                    code="link-in-run",
                )
            if deep and entry.is_dir():
                check_links(Path(entry.path), deep=False)
    except OSError as error:
        raise unreadable(folder, error) from None


def _unused(folder: Path) -> Path:
    """Two runs may start in the same second."""
    numbers = (folder.with_name(f"{folder.name}-{n}") for n in range(2, 1000))
    return folder if not folder.exists() else next(p for p in numbers if not p.exists())
