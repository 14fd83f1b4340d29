"""An error nobody foresaw: one line for the person, the rest into a file worth attaching."""

import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from wanflow.cli.render_error import Failure
from wanflow.files.folders import cache_folder


def crashed(error: BaseException) -> Failure:
    """Write the crash log and say where it is."""
    kind = type(error).__name__
    try:
        where = str(_write(_log(error)))
    except OSError as problem:
        where = f"none, it could not be written ({problem.strerror})"
    return Failure(
        f"internal error ({kind}: {_first_line(error)}); crash log: {where}",
        code="internal",
        exit_code=70,
        detail={"crash_log": where},
    )


def _log(error: BaseException) -> str:
    command = " ".join(sys.argv[1:2])  # the verb only: prompts and paths are private
    system = f"python {platform.python_version()} on {platform.platform()}"
    from wanflow.health import package_versions  # which wants what Windows lacks

    packages = [f"{name} {version}" for name, version in package_versions().items()]
    lines = [f"wanflow {command}", system, *packages, "", ""]
    return "\n".join(lines) + "".join(traceback.format_exception(error))


def _write(text: str) -> Path:
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        return _create(folder / name, text)
    except OSError:
        return _create(Path(tempfile.gettempdir()) / f"wanflow-{name}", text)


def _create(path: Path, text: str) -> Path:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    return path


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no message"])[0][:200]
