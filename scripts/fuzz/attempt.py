"""One attempt: what came of it, and what is held against it."""

from __future__ import annotations

import json
import os
import random
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

import attrs

from wanflow.cli.main import run as run_command

OWN_FAULT = 70
_MOST_LINES = 3  # of a message that is no list of problems
_MOST_LETTERS = 2000  # of a line of it
_MOST_ANSWER = 1 << 20
_MOST_SAID = 1 << 24
_PAGES = ("error[", "error: ")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")
_PLACE = re.compile(r'File "[^"]*?(wanflow/[^"]+)", line (\d+)')


@attrs.frozen
class Ended:
    """How an attempt ended. `why` is empty where it ended as it must; `label` is for counting."""

    label: str
    why: str = ""


class Kind(Protocol):
    """What is attempted: a number decides all of it."""

    @property
    def name(self) -> str:
        """Its name on the command line."""

    def warm(self, seeds: Path, scratch: Path) -> None:
        """Do what the first attempt would pay for, once; AssertionError where a seed is refused.

        *seeds* is a folder in which seeds are kept, *scratch* one for files.
        """

    def attempt(self, rng: random.Random, scratch: Path) -> Ended:
        """Do what *rng* decides, with files in *scratch*."""


@attrs.frozen
class Said:
    """What a command line gave: its exit code, stderr, and what it answered on stdout."""

    code: int
    text: str
    answer: str = ""


def command(words: Sequence[str], function: Callable[[list[str]], int] | None = None) -> Said:
    """Run a command line as a user's is run, or *function* in its place.

    An answer is kept where there is nothing else to say why the exit code is not 0.
    """
    with _streams() as (out, errors):
        code = run_command(words, function)
        text, answer = _read(errors, _MOST_SAID), ""
        if code and not text:
            answer = _read(out, _MOST_ANSWER)
        return Said(code, text, answer)


def _read(stream: TextIO, most: int) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read(most)


@contextmanager
def _streams() -> Iterator[tuple[TextIO, TextIO]]:
    """Lend streams in place of Python's; what libraries write to stderr past it is seen too."""
    before, stderr = (sys.stdout, sys.stderr), os.dup(2)
    with _in_memory("stdout") as out, _in_memory("stderr") as errors:  # no memory of ours
        sys.stdout, sys.stderr = out, errors
        os.dup2(errors.fileno(), 2)
        try:
            yield out, errors
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            sys.stdout, sys.stderr = before


def _in_memory(name: str) -> TextIO:
    return os.fdopen(os.memfd_create(name), "w+", encoding="utf-8")


def judged(said: Said, allowed: Collection[int], *, as_json: bool, answers: bool = False) -> Ended:
    """Hold a command to its promise: one message, an exit code that is right for the kind.

    One that *answers* says on stdout what is wrong: it was asked for that.
    """
    label = str(said.code)
    if said.code == OWN_FAULT:
        return Ended(label, f"our own fault: {_fault(said.text)}")
    if said.code not in allowed:
        return Ended(label, f"exit code {said.code}: {said.text[:300]}")
    if said.code == 0:
        return Ended(label)
    if answers and said.answer:
        return Ended(f"{label} answered", _bad_answer(said.answer, as_json=as_json))
    return _bad_json(label, said.text) if as_json else Ended(label, _bad_text(said.text))


def _bad_json(label: str, text: str) -> Ended:
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return Ended(label, f"no JSON error: {text[:300]}")
    return Ended(f"{label} {error['code']}", "" if error["message"] else "no message")


def _bad_text(text: str) -> str:
    lines = text.rstrip("\n").split("\n")
    if not text.strip():
        return "no message"
    if _CONTROL.search(text):
        return f"control characters in its message: {text[:300]!r}"
    if not text.startswith("error["):
        notes = [line for line in lines if not line.startswith("note: ")]
        if len(notes) > _MOST_LINES:
            return f"{len(notes)} lines: {text[:300]!r}"
    longest = max(map(len, lines))
    return f"a line of {longest} letters: {text[:200]!r}" if longest > _MOST_LETTERS else ""


def _bad_answer(answer: str, *, as_json: bool) -> str:
    if _CONTROL.search(answer):
        return f"control characters in its answer: {answer[:300]!r}"
    try:
        return "" if not as_json or json.loads(answer) else "an empty answer"
    except ValueError:
        return f"no JSON: {answer[:300]!r}"


def _fault(text: str) -> str:
    """Name the place of a crash by its log: the last line of ours in it."""
    found = re.search(r"crash log: (\S+)", text.replace("\\n", " ").rstrip('"}'))
    path = Path(found[1].split('"')[0]) if found else None
    if path is None or not path.is_file():
        return text[:300]
    log = path.read_text(encoding="utf-8")
    path.unlink()
    places = _PLACE.findall(log)
    where = ":".join(places[-1]) if places else "?"
    return f"{where}: {log.rstrip().splitlines()[-1][:200]}"
