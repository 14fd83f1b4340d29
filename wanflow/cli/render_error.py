"""An error as text of at most three lines, or as one JSON object."""

import json
from typing import Self

import attrs

from wanflow.errors import WanflowError
from wanflow.terminal.safe import clean


@attrs.frozen
class Failure:
    """What went wrong, ready to be shown. `bare` text stands for itself (a help page)."""

    message: str
    hint: str = ""
    code: str = ""
    exit_code: int = 70
    detail: dict[str, object] = attrs.field(factory=dict)
    bare: bool = False

    @classmethod
    def of(cls, error: WanflowError) -> Self:
        """Take over an error of ours."""
        return cls(
            error.message,
            hint=error.hint,
            code=error.code or type(error).__name__,
            exit_code=error.exit_code,
            detail=error.detail,
        )


_MOST_LETTERS = 1000  # of a line: names in a file are of any length
_HEAD, _TAIL = 700, 200  # what is kept of a longer one
_PAGES = ("error[", "error: ")  # a graph's errors come laid out, each with its place


def render(failure: Failure, *, as_json: bool) -> str:
    """Give the text for stderr."""
    return _json(failure) if as_json else _text(failure)


def _text(failure: Failure) -> str:
    if failure.bare:
        return failure.message
    message = _shortened(clean(failure.message))
    lines = [message if message.startswith(_PAGES) else f"error: {message}"]
    resume = failure.detail.get("resume")
    if failure.hint and failure.hint != resume:
        lines.append(f"hint: {_shortened(clean(failure.hint))}")
    if resume:  # last, where it is found
        lines.append(f"resume: {clean(str(resume))}")
    return "\n".join(lines)


def _json(failure: Failure) -> str:
    message, hint = _shortened(failure.message), _shortened(failure.hint)
    said = {"code": failure.code, "message": message, "hint": hint}
    # A graph's detail has a shorter message, of its first problem.
    error = {**said, **failure.detail, "exit_code": failure.exit_code}
    return json.dumps({"error": error}, default=str)


def _shortened(text: str) -> str:
    """Leave out what is in the middle of long lines."""
    return "\n".join(
        line
        if len(line) <= _MOST_LETTERS
        else f"{line[:_HEAD]} [{len(line) - _HEAD - _TAIL} letters] {line[-_TAIL:]}"
        for line in text.split("\n")
    )
