"""`--pin STAGE.KNOB=VALUE`, checked against what each stage has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from wanflow.errors import InputError
from wanflow.scheduler.knobs import ProgramOutline
from wanflow.session.request import Request, pairs

# Pins that every stage has, beside the knobs of its op, where the device has what they need.
_WEIGHTS = {"weights": ("resident", "stream")}
_SPILL = {"spill": ("none", "all")}
PLACING = (*_WEIGHTS, *_SPILL)  # which say where something lies, and not how it is computed


def read_pins(
    request: Request,
    outlines: Sequence[ProgramOutline],
    stages: Collection[str],
    *,
    spills: bool,
) -> dict[tuple[str, str], str]:
    """Read a request's pins, by stage and knob.

    *stages* are all of the graph: one that is not among *outlines* has nothing to do here, with
    these files or these steps. InputError for what no stage has, and for what `--exact` rules out.
    """
    pins = {}
    programs = {outline.stage: outline for outline in outlines}
    for key, value in pairs(request.pins, "--pin", "STAGE.KNOB=VALUE").items():
        stage, _, knob = key.partition(".")
        if stage not in programs:
            if stage in stages:
                continue
            raise InputError(
                f"--pin {key}: the graph has no stage {stage!r}",
                hint=f"its stages are {', '.join(programs)}",
                code="unknown-stage",
            )
        pins[stage, knob] = _checked_pin(programs[stage], key, value, spills=spills)
        if request.exact:
            _check_exact(programs[stage], key, value)
    return pins


def pins_keeping(
    request: Request,
    outlines: Sequence[ProgramOutline],
    pinned: Collection[tuple[str, str]],
    knobs: Mapping[str, Mapping[str, str]],
) -> tuple[str, ...]:
    """A request's pins, and those of *knobs* whose other values round otherwise."""
    pins = list(request.pins)
    for program in outlines:
        for knob in program.knobs:
            value = knobs.get(program.stage, {}).get(knob.name)
            rounds = "rounding" in knob.choices.values() and not request.exact
            if rounds and value in knob.choices and (program.stage, knob.name) not in pinned:
                pins.append(f"{program.stage}.{knob.name}={value}")
    return tuple(pins)


def _checked_pin(program: ProgramOutline, key: str, value: str, *, spills: bool) -> str:
    knob_name = key.partition(".")[2]
    allowed = {k.name: tuple(k.choices) for k in program.knobs}
    if program.has_model:
        allowed |= _WEIGHTS
    if spills:
        allowed |= _SPILL
    if knob_name not in allowed:
        names = ", ".join(allowed) or "none"
        raise InputError(
            f"--pin {key}: stage {program.stage!r} has no knob {knob_name!r}",
            hint=f"its knobs: {names}",
            code="unknown-knob",
        )
    if value not in allowed[knob_name]:
        raise InputError(
            f"--pin {key}={value}: not a value of that knob",
            hint=f"allowed: {', '.join(allowed[knob_name])}",
            code="bad-pin",
        )
    return value


def _check_exact(program: ProgramOutline, key: str, value: str) -> None:
    marks = {f"{program.stage}.{k.name}": k.choices for k in program.knobs}
    if marks.get(key, {}).get(value) == "rounding":
        raise InputError(
            f"--pin {key}={value}: rounds differently, which --exact rules out",
            hint="leave one of them out",
            code="pin-not-exact",
        )
