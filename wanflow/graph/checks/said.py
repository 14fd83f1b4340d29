"""What a stage's params must say together, by who said them: the command line, the file, nobody."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from wanflow.errors import InputError
from wanflow.graph.bound import BoundStage
from wanflow.graph.spec import StageSpec
from wanflow.graph.values import InputRef, parse_numbers

# The params `cache_*` that a cache reads.
_READS = {
    "none": (),
    "teacache": ("threshold", "coefficients"),
    "magcache": ("threshold", "ratios", "retention", "k"),
    "easycache": ("threshold", "retention"),
}  # fmt: skip
# What the authors of each cache take, for the hint: their READMEs and defaults.
_USUAL = {"teacache": 0.08, "magcache": 0.12, "easycache": 0.05}


@attrs.frozen
class Asked:
    """What the command line says: params as `stage.param`, inputs by name."""

    params: Collection[str]
    inputs: Collection[str]


def as_said(stage: BoundStage, spec: StageSpec, asked: Asked) -> BoundStage:
    """Give a stage as many steps as it has timesteps; InputError where that is contradicted.

    A step cache needs its threshold from whoever wants it, and what it wouldn't read is not said.
    """
    if stage.op.name != "denoise":
        return stage
    _check_cache(stage, spec, asked)
    count = len(parse_numbers(str(stage.params["timesteps"])))
    if not count or stage.params["steps"] == count:
        return stage
    said = _who_said_steps(spec, asked)
    if said:
        raise InputError(
            f"stage '{stage.name}' has {count} timesteps, and {said} says "
            f"{stage.params['steps']} steps",
            hint="leave the steps out: there are as many as timesteps",
            code="steps-timesteps",
        )
    params = {**stage.params, "steps": count}
    return attrs.evolve(stage, params=params, steps=range(count))


def _who_said_steps(spec: StageSpec, asked: Asked) -> str:
    """Name who says how many steps with at least the right of who gave the timesteps."""
    if f"{spec.name}.steps" in asked.params:
        return f"--set {spec.name}.steps"
    wire = spec.params.get("steps")
    if wire is None:
        return ""
    if isinstance(wire.value, InputRef):
        return f"-i {wire.value.name}" if wire.value.name in asked.inputs else ""
    return "" if f"{spec.name}.timesteps" in asked.params else "the graph"


def _check_cache(stage: BoundStage, spec: StageSpec, asked: Asked) -> None:
    cache = str(stage.params["cache"])
    reads = {f"{spec.name}.cache_{name}" for name in _READS[cache]}
    unread = sorted(
        p for p in asked.params if p.startswith(f"{spec.name}.cache_") and p not in reads
    )
    if unread:
        hint = f"{cache} reads {', '.join(sorted(reads))}"
        if cache == "none":
            hint = f"--set {stage.name}.cache=teacache, magcache or easycache"
        raise InputError(
            f"--set {unread[0]}: nothing reads it with {stage.name}.cache={cache}",
            hint=hint,
            code="unread-param",
        )
    if cache == "none":
        return
    if "cache_threshold" not in spec.params and f"{spec.name}.cache_threshold" not in asked.params:
        raise InputError(
            f"stage '{stage.name}' has {cache} and no threshold",
            hint=f"--set {stage.name}.cache_threshold={_USUAL[cache]}: more skips more steps",
            code="no-threshold",
        )
