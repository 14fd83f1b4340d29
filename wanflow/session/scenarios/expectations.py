"""What a scenario must hold: each kind with what it is compared with, and how that is said."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import attrs

from wanflow.graph.source import Mark
from wanflow.session.scenarios.outcome import ScenarioOutcome
from wanflow.units import format_bytes, format_seconds


class Sort(StrEnum):
    """What is written behind an expectation."""

    SIZE = "a size, such as 8GiB"
    SECONDS = "a time, such as 90s or 3:38"
    SHARE = "a share, such as 3%"
    FLAG = "true or false"
    CODE = "an exit code, 0 to 255"
    WORD = "text"
    WORDS = "a mapping, such as {denoise.rows: all}"
    SCENARIO = "the name of another scenario of the file"


@attrs.frozen
class ExpectationKind:
    """A kind: what it looks at, how that must compare, and how a value of it is written.

    `of_runs`: a plan alone can't hold it.
    """

    sort: Sort
    about: str
    found: Callable[[ScenarioOutcome], Any]
    compare: Callable[[Any, Any], bool]
    said: Callable[[Any], str] = str
    of_runs: bool = False


def _has(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(found.get(knob) == value for knob, value in wanted.items())


def _bytes(value: int) -> str:
    return f"{value} bytes ({format_bytes(value)})"


def _flag(value: object) -> str:
    return str(value).lower()


def _pairs(value: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={text}" for name, text in value.items())


KINDS: Mapping[str, ExpectationKind] = {
    "exit": ExpectationKind(
        Sort.CODE, "the exit code of `wanflow plan` or `run`", lambda p: p.exit_code, operator.eq
    ),
    "error": ExpectationKind(
        Sort.WORD, "the `code` of its error under `--json`", lambda p: p.error, operator.eq,
        lambda code: code or "none",
    ),
    "fits": ExpectationKind(
        Sort.FLAG, "whether the budget holds it; `false` expects exit 3", lambda p: p.fits,
        operator.eq, _flag,
    ),
    "peak_at_most": ExpectationKind(
        Sort.SIZE, "the peak: measured of a run, else predicted", lambda p: p.peak_bytes,
        operator.le, _bytes,
    ),
    "peak_at_least": ExpectationKind(
        Sort.SIZE, "the same", lambda p: p.peak_bytes, operator.ge, _bytes
    ),
    "peak_below": ExpectationKind(
        Sort.SCENARIO, "the peak is lower than the other's", lambda p: p.peak_bytes, operator.lt,
        _bytes,
    ),
    "peak_stage": ExpectationKind(
        Sort.WORD, "the stage in which the plan has its peak", lambda p: p.peak_stage, operator.eq
    ),
    "peak_off_at_most": ExpectationKind(
        Sort.SHARE, "how far the predicted peak is off the measured one", lambda p: p.peak_off,
        operator.le, "{:.1%}".format, of_runs=True,
    ),
    "within_budget": ExpectationKind(
        Sort.FLAG, "whether the run took no more than its budget; of a run it goes without saying",
        lambda p: p.within_budget, operator.eq, _flag, of_runs=True,
    ),
    "minimum_at_most": ExpectationKind(
        Sort.SIZE, "the smallest budget that can hold it", lambda p: p.minimum_bytes, operator.le,
        _bytes,
    ),
    "seconds_at_most": ExpectationKind(
        Sort.SECONDS, "the seconds: measured of a run, else predicted", lambda p: p.seconds,
        operator.le, format_seconds,
    ),
    "seconds_at_least": ExpectationKind(
        Sort.SECONDS, "the same", lambda p: p.seconds, operator.ge, format_seconds
    ),
    "slower_than": ExpectationKind(
        Sort.SCENARIO, "it takes longer than the other", lambda p: p.seconds, operator.gt,
        format_seconds,
    ),
    "not_slower_than": ExpectationKind(
        Sort.SCENARIO, "it takes no longer than the other", lambda p: p.seconds, operator.le,
        format_seconds,
    ),
    "knobs": ExpectationKind(
        Sort.WORDS, "what the plan chose of each knob named", lambda p: p.knobs, _has, _pairs
    ),
    "frames_equal": ExpectationKind(
        Sort.SCENARIO, "the frames of both have the same bits, before they are encoded",
        lambda p: p.frames or None, operator.eq, of_runs=True,
    ),
}  # fmt: skip


@attrs.frozen
class Expectation:
    """One thing that must hold: its kind by name, what is written behind it, and where."""

    kind: str
    wanted: Any
    mark: Mark = attrs.field(eq=False)

    @property
    def compares(self) -> bool:
        """Whether `wanted` names another scenario."""
        return KINDS[self.kind].sort is Sort.SCENARIO

    def judge(self, played: ScenarioOutcome, others: Mapping[str, ScenarioOutcome]) -> Verdict:
        """Compare with what came out; what is not known does not hold."""
        kind = KINDS[self.kind]
        found, wanted = kind.found(played), self.wanted
        if self.compares:
            wanted = kind.found(others[self.wanted])
        holds = found is not None and wanted is not None and kind.compare(found, wanted)
        return Verdict(self.kind, self.wanted, wanted, found, holds=holds)


@attrs.frozen
class Verdict:
    """Whether an expectation holds.

    `wanted` is as the file has it, `against` what it was compared with, another's figure for one.
    """

    kind: str
    wanted: Any
    against: Any
    found: Any
    holds: bool

    def __str__(self) -> str:
        kind, found = KINDS[self.kind], self.found
        if kind.sort is Sort.WORDS and found is not None:  # of all knobs those that are meant
            found = {name: found.get(name, "no such knob") for name in self.against}
        against, is_ = ("not known" if v is None else kind.said(v) for v in (self.against, found))
        wanted = f"{self.wanted} ({against})" if kind.sort is Sort.SCENARIO else against
        return f"{self.kind} {wanted}, is {is_}"
