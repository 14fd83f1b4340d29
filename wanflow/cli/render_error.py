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


_PAGES = ("error[", "error: ")  # a graph's errors come laid out, each with its place


def render(failure: Failure, *, as_json: bool) -> str:
    """Give the text for stderr."""
    return _json(failure) if as_json else _text(failure)


def _text(failure: Failure) -> str:
    if failure.bare:
        return failure.message
    message = clean(failure.message)
    lines = [message if message.startswith(_PAGES) else f"error: {message}"]
    resume = failure.detail.get("resume")
    if failure.hint and failure.hint != resume:
        lines.append(f"hint: {clean(failure.hint)}")
    if resume:  # last, where it is found
        lines.append(f"resume: {clean(str(resume))}")
    return "\n".join(lines)


def _json(failure: Failure) -> str:
    said = {"code": failure.code, "message": failure.message, "hint": failure.hint}
    # A graph's detail has a shorter message, of its first problem.
    error = {**said, **failure.detail, "exit_code": failure.exit_code}
    return json.dumps({"error": error}, default=str)
