"""The settings of a stage's knobs that are worth a try, from the plain way to the leanest."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import attrs

Knobs = Mapping[str, Mapping[str, str]]  # of stages
Pins = Mapping[tuple[str, str], str]  # of a stage's knob
_PLAIN = 0


@attrs.frozen
class Knob:
    """A choice that changes memory and time, not the picture.

    `choices` maps each value to `bitwise` or `rounding`; the first one is the plain way. `searched`
    says whether the planner tries the others, or takes them only when they are pinned. `settled`
    is the value that is taken, where it may be, without a comparison: where what is cached could
    decide it.
    `levels`: values that save memory, each with the level at which it comes in. A higher level is
    leaner and, after the first, slower. A stage's knobs go through the levels together, so that
    what costs least is given up first, with one setting a level instead of all combinations.
    """

    name: str
    choices: Mapping[str, str]
    about: str
    searched: bool = True
    levels: Mapping[str, int] = attrs.field(factory=dict)
    settled: str | None = None


@attrs.frozen
class ProgramOutline:
    """What planning asks of a program besides its calls; see `program.Program`."""

    stage: str
    steps: int
    has_model: bool
    consumes: str | None
    knobs: tuple[Knob, ...]


@attrs.frozen
class StageSettings:
    """`always` are at the plain level, the first and the leanest, `between` at the others.

    The first level is often the fastest, the leanest says what is needed at least.
    """

    always: Sequence[Knobs]
    between: Sequence[Knobs]

    @property
    def all(self) -> list[Knobs]:
        """Every one, the plain one first."""
        return [*self.always, *self.between]


def settings_of(
    knobs_of: Mapping[str, Sequence[Knob]], pins: Pins, *, exact: bool
) -> dict[str, StageSettings]:
    """List what pins and *exact* leave of each stage's knobs; a stage without knobs is left out."""
    by_stage = {}
    for stage, all_knobs in knobs_of.items():
        knobs = [_allowed(knob, pins.get((stage, knob.name)), exact=exact) for knob in all_knobs]
        knobs = [knob for knob in knobs if knob.searched]
        if knobs:
            levels = sorted({_PLAIN, *(at for knob in knobs for at in knob.levels.values())})
            always = {*levels[:2], levels[-1]}
            settings = {at: _at(stage, knobs, at) for at in levels}
            by_stage[stage] = StageSettings(
                [setting for at in levels if at in always for setting in settings[at]],
                [setting for at in levels if at not in always for setting in settings[at]],
            )
    return by_stage


def _allowed(knob: Knob, pinned: str | None, *, exact: bool) -> Knob:
    """The knob with the values that are left of it."""
    if pinned is not None:
        only = {pinned: knob.choices[pinned]}
        return attrs.evolve(knob, choices=only, levels={}, searched=True)
    values = {v: mark for v, mark in knob.choices.items() if mark == "bitwise" or not exact}
    if knob.settled in values:
        values = {knob.settled: values[knob.settled]}
    levels = {value: level for value, level in knob.levels.items() if value in values}
    return attrs.evolve(knob, choices=values, levels=levels)


def _at(stage: str, knobs: Sequence[Knob], level: int) -> list[Knobs]:
    """Every combination at a level."""
    choices = [[(knob.name, value) for value in _values(knob, level)] for knob in knobs]
    return [{stage: dict(values)} for values in itertools.product(*choices)]


def _values(knob: Knob, level: int) -> list[str]:
    """What a knob may be at a level: of those with levels, the leanest that has come in."""
    free = [value for value in knob.choices if value not in knob.levels]
    if not knob.levels:
        return free
    come = [value for value, at in knob.levels.items() if at <= level]
    return [max(come, key=lambda value: knob.levels[value])] if come else free[:1]
