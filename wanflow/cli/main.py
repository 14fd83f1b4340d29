"""The only place that prints an error and turns it into an exit code."""

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from signal import SIG_DFL, SIGTERM, signal
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from typer.exceptions import TyperException

from wanflow.cli import output
from wanflow.cli.crash import crashed
from wanflow.cli.render_error import Failure, render
from wanflow.errors import InputError, WanflowError
from wanflow.remarks import take_remarks
from wanflow.terminal.safe import clean


def run(arguments: Sequence[str], command: Callable[[list[str]], int] | None = None) -> int:
    """Run one command line and give its exit code; nothing is raised."""
    as_json = "--json" in arguments
    output.tolerate_any_text()
    take_remarks()  # of whoever used this process before
    try:
        with _terminable():
            code = (command or _dispatch)(list(arguments))
            remarks = take_remarks()
            if remarks and not as_json:
                output.note(clean("\n".join(remarks)))
            output.flush()
    except BaseException as error:  # noqa: BLE001  a traceback is never the answer
        failure = explain(error)
        if failure.message:
            with suppress(OSError):  # stderr is full or gone: the exit code still tells
                output.note(render(failure, as_json=as_json))
        return failure.exit_code
    return code


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a command in order, as Ctrl-C does; a run stops at its own pace."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    if current_thread() is not main_thread():
        yield
        return
    before = signal(SIGTERM, end)
    try:
        yield
    finally:
        signal(SIGTERM, before or SIG_DFL)


class Terminated(BaseException):
    """SIGTERM came where nothing needed to be finished first."""


def explain(error: BaseException) -> Failure:
    """Say what an exception means to the person who typed the command."""
    for kind, reading in _READINGS:
        if isinstance(error, kind):
            return reading(error)
    return crashed(error)


def _dispatch(arguments: list[str]) -> int:
    if sys.platform == "win32":
        raise InputError(
            "wanflow runs on Linux, and this is Windows",
            hint="wsl --install, and install wanflow in there: it has the card too",
            code="windows",
        )
    from wanflow.cli.app import app

    code = app(arguments, prog_name="wanflow", standalone_mode=False)
    if code == 130:  # what typer makes of Ctrl-C
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _usage(error: Any) -> Failure:
    message, context = error.format_message(), getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        return Failure(message, code="usage", exit_code=2, bare=True)
    path = context.command_path if context else "wanflow"
    return Failure(message, hint=f"{path} --help", code="usage", exit_code=error.exit_code)


def _leaving(error: Any) -> Failure:
    return Failure("", exit_code=error.code if isinstance(error.code, int) else 1)


def _system(error: Any) -> Failure:
    where = f": {error.filename}" if error.filename else ""
    if error.errno in _DISK_FULL:
        message = f"the disk is full{where}"
        return Failure(message, hint="free some space", code="disk-full", exit_code=1)
    if not error.filename:
        return crashed(error)
    message = f"{(error.strerror or 'I/O error').lower()}{where}"
    return Failure(message, code="file", exit_code=2 if isinstance(error, _WRONG_PATH) else 1)


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRONG_PATH = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)
_READINGS: tuple[tuple[type[BaseException], Callable[[Any], Failure]], ...] = (
    (WanflowError, Failure.of),
    (TyperException, _usage),
    (KeyboardInterrupt, lambda _: Failure("interrupted", code="interrupted", exit_code=130)),
    (Terminated, lambda _: Failure("terminated", code="interrupted", exit_code=143)),
    (SystemExit, _leaving),
    (MemoryError, lambda _: Failure("out of memory", code="out-of-memory", exit_code=6)),
    (OSError, _system),
)
