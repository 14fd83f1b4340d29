"""Advice: a change to a run's options, with what a plan says it saves and costs. Nothing canned."""

from __future__ import annotations

from typing import Any

import attrs

from wanflow.trace.plain import plain

_LARGE, _SOME = 0.10, 0.03  # of the peak or of the time
_FREE, _CHEAP = 0.02, 0.25


@attrs.frozen
class Advice:
    """A change, planned: `options` are words for the command line.

    `saves_bytes` is the peak less, `costs_seconds` the time more, both against the plan of the run
    as it was; either may be below zero. `picture` is what becomes of it: `same`, `rounding`,
    `other`.
    """

    options: tuple[str, ...]
    picture: str
    peak_bytes: int
    seconds: float
    saves_bytes: int
    costs_seconds: float
    priority: str


@attrs.frozen
class Advised:
    """What a run could do otherwise; `reason` says why nothing was planned, "" when it was.

    `command` is the run as it was, to which the options are added. `peak_bytes` and `seconds` are
    of its plan on `machine`.
    """

    command: str
    machine: str
    peak_bytes: int
    seconds: float
    advice: tuple[Advice, ...]
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give `advice` of `trace report --json`."""
        return plain(self)


def priority(
    saves_bytes: int, costs_seconds: float, peak_bytes: int, seconds: float, picture: str
) -> str | None:
    """Rate a change by what it gains against what it costs; None when it gains nothing.

    A change of the picture is never more than low.
    """
    less = saves_bytes / peak_bytes if peak_bytes else 0.0
    faster = -costs_seconds / seconds if seconds else 0.0
    gain, cost = max(less, faster), max(-min(less, faster), 0.0)
    if gain <= _SOME / 3 or (less < 0 and faster < _SOME):
        return None
    if picture == "other":
        return "low"
    if gain >= _LARGE and cost <= _FREE:
        return "high"
    if (gain >= _LARGE and cost <= _CHEAP) or (gain >= _SOME and cost <= _FREE):
        return "medium"
    return "low"
