"""Compare two traces: what changed most, in one line what that comes to, and thresholds for CI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import attrs

from wanflow.errors import InputError
from wanflow.trace.plain import plain
from wanflow.trace.summary import StageSummary, Summary
from wanflow.units import format_bytes, format_seconds, parse_budget

_SAME = 0.005  # of the whole: what changes less is not worth a word in the verdict
_RULE = re.compile(r"^\s*(?:(\S+)\.)?([a-z_]+)\s*>\s*\+?\s*(\d+(?:\.\d+)?)\s*(%|s|[KMGT]?i?B)\s*$")
_STAGE_BYTES = {
    "peak": "peak_bytes", "moved_in": "moved_in_bytes", "moved_out": "moved_out_bytes",
}  # fmt: skip
_STAGE_SECONDS = {
    "seconds": "seconds", "compute": "compute_seconds", "waited": "waited_seconds",
}  # fmt: skip


@attrs.frozen
class Change:
    """One quantity in both traces. `weight` is the difference as a share of the run's whole."""

    stage: str
    what: str
    unit: str  # bytes or seconds
    before: float
    after: float
    weight: float

    @property
    def delta(self) -> float:
        """How much more it is in the second."""
        return self.after - self.before

    @property
    def ratio(self) -> float | None:
        """How much more as a share of the first; None where that was nothing."""
        return self.delta / self.before if self.before else None


@attrs.frozen
class Setting:
    """Something in words that is not the same: a knob, the budget, a version."""

    what: str
    before: str
    after: str


@attrs.frozen
class Diff:
    """Two traces compared; `changes` are those that differ, the weightiest first."""

    before: str
    after: str
    changes: tuple[Change, ...]
    settings: tuple[Setting, ...]
    verdict: str
    same: bool

    def to_dict(self) -> dict[str, Any]:
        """Give what `trace diff --json` prints."""
        changes = [
            {**attrs.asdict(row), "delta": row.delta, "ratio": row.ratio} for row in self.changes
        ]
        return {**plain(self), "changes": changes}


def diff(before: Summary, after: Summary) -> Diff:
    """Compare *after* with *before*; either may be a simulated plan."""
    every = list(_changes(before, after))
    changes = sorted(
        (change for change in every if change.delta),
        key=lambda change: (-change.weight, change.stage),
    )
    return Diff(
        before.path, after.path, tuple(changes), tuple(_settings(before, after)),
        _verdict(every), not changes,
    )  # fmt: skip


def exceeded(before: Summary, after: Summary, rule: str) -> str | None:
    """Say how *rule* (`peak>+2%`, `denoise.seconds>5s`) is broken, or None; InputError for no rule.

    A quantity that was nothing is past any percentage when it is something now.
    """
    match = _RULE.match(rule)
    if match is None:
        raise _no_rule(rule, "write QUANTITY>+2%, QUANTITY>+100MiB or QUANTITY>+3s")
    stage, what, number, unit = match.groups()
    change = _quantity(list(_changes(before, after)), stage or "", what, rule)
    limit: float
    if unit == "%":
        limit = change.before * float(number) / 100
    elif (unit == "s") != (change.unit == "seconds"):
        raise _no_rule(rule, f"{what} is in {change.unit}")
    else:
        size = None if unit == "s" else parse_budget(number + unit, "--fail-if").nbytes
        limit = float(number) if size is None else size
    if change.delta <= limit:
        return None
    name = f"{stage}.{what}" if stage else what
    old, new = (amount(value, change.unit) for value in (change.before, change.after))
    share = "" if change.ratio is None else f" ({change.ratio:+.1%})"
    return f"{name} {old} -> {new}{share}, allowed is +{number}{unit}"


def _no_rule(rule: str, hint: str) -> InputError:
    return InputError(f"--fail-if {rule!r} can't be read", hint=hint, code="bad-rule")


def _quantity(changes: list[Change], stage: str, what: str, rule: str) -> Change:
    here = {change.what: change for change in changes if change.stage == stage}
    if what in here:
        return here[what]
    if not here:
        stages = ", ".join(dict.fromkeys(change.stage for change in changes if change.stage))
        raise _no_rule(rule, f"no stage {stage!r}; the stages are {stages}")
    raise _no_rule(rule, f"the quantities are {', '.join(here)}")


def _changes(before: Summary, after: Summary) -> Iterator[Change]:
    whole_bytes = max(before.peak_bytes, after.peak_bytes, 1)
    whole_seconds = max(before.seconds, after.seconds, 1e-9)

    def change(stage: str, what: str, unit: str, old: float, new: float) -> Change:
        total = whole_seconds if unit == "seconds" else whole_bytes
        if what.startswith("moved"):
            total = max(_moved(before), _moved(after), 1)
        return Change(stage, what, unit, old, new, abs(new - old) / total)

    yield change("", "peak", "bytes", before.peak_bytes, after.peak_bytes)
    if before.measured_peak_bytes is not None and after.measured_peak_bytes is not None:
        old, new = before.measured_peak_bytes, after.measured_peak_bytes
        yield change("", "measured_peak", "bytes", old, new)
    yield change("", "seconds", "seconds", before.seconds, after.seconds)
    yield change("", "waited", "seconds", _waited(before), _waited(after))
    yield change("", "moved", "bytes", _moved(before), _moved(after))
    old_stages, new_stages = ({s.stage: s for s in summary.stages} for summary in (before, after))
    for name in dict.fromkeys([*old_stages, *new_stages]):
        if not name:  # buffers of the whole run
            continue
        pair = (old_stages.get(name), new_stages.get(name))
        for unit, names in (("bytes", _STAGE_BYTES), ("seconds", _STAGE_SECONDS)):
            for what, field in names.items():
                yield change(name, what, unit, *(_of(stage, field) for stage in pair))


def _of(stage: StageSummary | None, field: str) -> float:
    return 0 if stage is None else getattr(stage, field)


def _waited(summary: Summary) -> float:
    return sum(stage.waited_seconds for stage in summary.stages)


def _moved(summary: Summary) -> int:
    return sum(stage.moved_in_bytes for stage in summary.stages)


def _settings(before: Summary, after: Summary) -> Iterator[Setting]:
    for name in ("graph", "device", "budget_bytes", "plan_id", "seed"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield Setting(name, str(old), str(new))
    for name in sorted({*before.versions, *after.versions}):
        old, new = before.versions.get(name), after.versions.get(name)
        if old != new:
            yield Setting(f"version of {name}", str(old), str(new))
    old_knobs, new_knobs = (
        {s.stage: s.knobs for s in summary.stages} for summary in (before, after)
    )
    for stage in dict.fromkeys([*old_knobs, *new_knobs]):
        old, new = (" ".join(knobs.get(stage, ())) for knobs in (old_knobs, new_knobs))
        if old != new:
            yield Setting(f"knobs of {stage}", old, new)


def _verdict(changes: list[Change]) -> str:
    """Say peak and time in one line; after that where most of the change is."""
    words = [_said(change) for change in changes if not change.stage and change.what in _SAID]
    inside = [c for c in changes if c.stage and c.what in ("peak", "seconds") and c.weight > _SAME]
    if inside:
        most = max(inside, key=lambda change: change.weight)
        words.append(f"most of it in {most.stage}")
    return ", ".join(words)


_SAID = {"peak": "peak", "seconds": "time"}


def _said(change: Change) -> str:
    name = _SAID[change.what]
    if change.weight <= _SAME:
        return f"{name} the same"
    share = "" if change.ratio is None else f" ({change.ratio:+.1%})"
    way = "more" if change.delta > 0 else "less"
    return f"{name} {amount(abs(change.delta), change.unit)} {way}{share}"


def amount(number: float, unit: str) -> str:
    """Write a quantity of a comparison."""
    return format_seconds(number) if unit == "seconds" else format_bytes(int(number))
