"""Errors that end a command: one class per exit code, raised anywhere, printed once by the CLI."""

from __future__ import annotations


class WanflowError(Exception):
    """Say what failed, where, with the numbers; `hint` is something to type or change.

    `code` is a stable short id (`unknown-op`); `detail` goes into the JSON form of the error.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str = "",
        detail: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.detail = detail or {}


class StageFailed(WanflowError):
    """A stage failed while it ran, or the disk is full."""

    exit_code = 1


class InputError(WanflowError):
    """The graph, an option, an image or a run folder is wrong."""

    exit_code = 2


class BudgetError(WanflowError):
    """The budget can't hold the work; `detail` has `minimum_bytes` and what needs it."""

    exit_code = 3


class WeightsError(WanflowError):
    """Weights are missing, or are not what the graph says."""

    exit_code = 4


class TraceError(WanflowError):
    """A trace is cut before what a command needs of it, or holds what no run wrote."""

    exit_code = 4


class DiffExceeded(WanflowError):
    """A comparison is past its threshold."""

    exit_code = 5


class OutOfMemory(WanflowError):
    """The device ran out of memory in spite of the plan."""

    exit_code = 6


class Interrupted(WanflowError):
    """SIGINT (130) or SIGTERM (143) stopped the run between two transitions."""

    exit_code = 130

    def __init__(self, message: str, *, exit_code: int = 130, hint: str = "") -> None:
        super().__init__(message, hint=hint, code="interrupted")
        self.exit_code = exit_code
