"""What is written where: data on stdout, everything else on stderr."""

import codecs
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console


# What tables and bars are drawn with, on a terminal without it: as wide, so that columns stand.
_PLAIN = str.maketrans("\u2026\u2500\u2501\u2574\u2578\u2579\u257a\u2502\u2503", "~------||")
_STAND_INS = "wanflow.stand_ins"


def tolerate_any_text() -> None:
    """Let no odd character end a command: what a stream can't encode is drawn or escaped in ASCII.

    A message's own characters are shown by their number, as Python writes them.
    """
    codecs.register_error(_STAND_INS, _stand_ins)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors=_STAND_INS)


def _stand_ins(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):  # it is for streams that are written
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode(), error.end


def say(text: str) -> None:
    """Write a line of data to stdout."""
    _write(sys.stdout, f"{text}\n")


def say_json(data: Any) -> None:
    """Write one JSON value to stdout."""
    say(json.dumps(data, indent=2, default=str))


def note(text: str) -> None:
    """Write a line for the person to stderr."""
    _write(sys.stderr, f"{text}\n")


@contextmanager
def page() -> "Iterator[Console]":
    """Lend a console, dressed for what stdout is; what was printed on it goes there at the end."""
    from rich.console import Console

    text = io.StringIO()  # so that every write to stdout is one of `_write`
    yield Console(
        file=text,
        force_terminal=sys.stdout is not None and sys.stdout.isatty(),
        markup=False,
        highlight=False,
        emoji=False,
    )
    say("\n".join(line.rstrip() for line in text.getvalue().rstrip("\n").split("\n")))


def present(data: Any, draw: Callable[["Console"], None], *, json: bool) -> None:
    """Write *data* as JSON, or draw the page that shows it."""
    if json:
        say_json(data)
        return
    with page() as console:
        draw(console)


@contextmanager
def lines() -> Iterator[TextIO]:
    """Lend stdout for many lines; a reader that leaves early ends the block in silence."""
    stream = sys.stdout or io.StringIO()
    try:
        yield stream
        stream.flush()
    except BrokenPipeError:
        _silence(stream)


def terminal_width(stream: TextIO) -> int | None:
    """How many cells a line of *stream* has; None where it is no terminal."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def flush() -> None:
    """Push out what is buffered; at the exit of the interpreter it would be too late to say why."""
    for stream in (sys.stdout, sys.stderr):
        _write(stream, "")


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # started with `>&-`
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:  # the reader has seen enough: that is no failure of ours
        _silence(stream)
    except OSError:
        _silence(stream)
        raise


def _silence(stream: TextIO) -> None:
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), stream.fileno())
