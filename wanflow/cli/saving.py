"""What a run made under the name that was asked for: looked at before it, put there after."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from wanflow.errors import InputError, StageFailed
from wanflow.files.whole import writing


def check_target(text: str, suffix: str = ".mp4") -> Path:
    """Give the path of `--save_file`; InputError where no file of *suffix* can be put there.

    A file that is there will be replaced, behind a link too.
    """
    shown = f"--save_file {text}"
    try:
        path = Path(text).expanduser().resolve()
        if path.exists() and not path.is_file():
            what = "is a folder" if path.is_dir() else "is no regular file"
            raise InputError(f"{shown}: {what}", hint=f"name a file: {suffix}", code="save-file")
        if path.suffix.lower() != suffix:
            kind = {".mp4": "an mp4", ".png": "a PNG"}[suffix]
            raise InputError(
                f"{shown}: what is written is {kind} file",
                hint=f"end it in {suffix}",
                code="save-file",
            )
        if not path.parent.is_dir():
            raise InputError(
                f"{shown}: there is no folder {path.parent}",
                hint="make it, or name another",
                code="save-file",
            )
        if path.exists() and not os.access(path, os.W_OK):
            raise InputError(f"{shown}: may not be written over", code="save-file")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, no home, a NUL
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{shown}: {reason.lower()}", code="save-file") from None
    return path


def make_folder(text: str) -> Path:
    """Make the folder of `--log_path` if it is missing; InputError where nothing can be put."""
    try:
        path = Path(text).expanduser().resolve()
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"--log_path {text}: {reason.lower()}", code="log-path") from None
    return path


def put(product: Path, target: Path) -> None:
    """Copy a finished file; StageFailed, with the target as it was, when that fails."""
    try:
        with (
            writing(target, shared=True, mode=0o600) as part,
            part.open("wb") as copy,
            product.open("rb") as source,
        ):
            shutil.copyfileobj(source, copy, 1 << 20)
            part.chmod(_mode(target, product))
    except OSError as error:
        raise StageFailed(
            f"{target}: {(error.strerror or str(error)).lower()}",
            hint=f"the file is done: {product}",
            code="write-failed",
        ) from None


def _mode(target: Path, product: Path) -> int:
    """What a file that was there could be read by, else what the run folder's can."""
    return (target if target.exists() else product).stat().st_mode & 0o777
