"""Which steps a step cache leaves out: what was asked for, with a model's numbers and its weights.

TeaCache's indicator needs the weights of the time embedding. Where they are not here, a plan can't
know the steps, and says from when to when a stage would take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from wanflow.errors import InputError
from wanflow.graph import BoundGraph, BoundStage
from wanflow.graph.reuse import Reuse
from wanflow.graph.values import PortRef
from wanflow.models.bound import LocatedModel
from wanflow.stages import cache_tables, step_cache
from wanflow.stages.step_cache import PASSES, StepCache

if TYPE_CHECKING:
    import torch

    from wanflow.models.weights.checkpoint import Checkpoint

_TIME = "condition_embedder.time_embedder"
_CHECKPOINTS = ("480P", "720P")  # of one shape, told apart by the path in the graph


def with_caches(graph: BoundGraph, models: Mapping[str, LocatedModel]) -> BoundGraph:
    """Give every stage that has a step cache the steps it leaves out.

    InputError for a model without published numbers, when the user gives none either.
    """
    stages = tuple(
        attrs.evolve(stage, reuse=_reuse(stage, models)) if stage.op.name == "denoise" else stage
        for stage in graph.stages
    )
    return attrs.evolve(graph, stages=stages)


def _reuse(stage: BoundStage, models: Mapping[str, LocatedModel]) -> Reuse | None:
    cache, model = StepCache.of(stage.params), models[stage.model or ""]
    if cache.kind == "none":
        return None
    if cache.kind == "easycache":
        first = max(int(len(stage.steps) * cache.retention), 1)
        return Reuse(cache.kind, cache.threshold, may=frozenset(stage.steps[first:-1]))
    if cache.kind == "magcache":
        return Reuse(cache.kind, cache.threshold, _by_ratios(stage, cache, model))
    coefficients = cache.coefficients or _published(
        stage, cache, model, cache_tables.COEFFICIENTS, "coefficients"
    )
    if model.checkpoint is None:
        return Reuse(cache.kind, cache.threshold, may=frozenset(stage.steps[1:-1]))
    changes = _time_changes(stage, model, model.checkpoint)
    skipped = step_cache.teacache(changes, coefficients, cache.threshold)
    steps = frozenset(stage.steps[step] for step in skipped)
    return Reuse(cache.kind, cache.threshold, dict.fromkeys(PASSES, steps))


def _by_ratios(
    stage: BoundStage, cache: StepCache, model: LocatedModel
) -> dict[str, frozenset[int]]:
    ratios = cache.ratios or _published(stage, cache, model, cache_tables.RATIOS, "ratios")
    if len(ratios) % 2:
        raise InputError(
            f"stage '{stage.name}': {len(ratios)} cache_ratios, wants two a step",
            hint="those with the prompt and without it by turns, from the second step on",
            code="odd-ratios",
        )
    total, steps = int(str(stage.params["steps"])), {}
    for turn, name in enumerate(PASSES):
        own = step_cache.ratios_at(ratios, turn, total)[stage.steps.start : stage.steps.stop]
        skipped = step_cache.magcache(own, turn, cache.threshold, cache.retention, cache.k)
        steps[name] = frozenset(stage.steps[step] for step in skipped)
    return steps


def _published(
    stage: BoundStage,
    cache: StepCache,
    model: LocatedModel,
    table: Mapping[str, tuple[float, ...]],
    what: str,
) -> tuple[float, ...]:
    """Look up a model's numbers; InputError with what there is."""
    spec = model.spec
    places = [name for name in _CHECKPOINTS if name in spec.path.upper()]
    with_image = ["image"] if isinstance(stage.inputs.get("condition"), PortRef) else []
    for key in (*(f"{spec.config}:{more}" for more in (*places, *with_image)), spec.config):
        if key in table:
            return table[key]
    who = spec.config or "which names no config"
    raise InputError(
        f"stage '{stage.name}': {cache.kind} has no {what} for its model '{spec.name}' ({who})",
        hint=f"--set {stage.name}.cache_{what}=...; there are some for {_listed(table)}"
        + (f"; {other}" if (other := _other(cache.kind, spec.config)) else ""),
        code="no-cache-numbers",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _other(kind: str, config: str) -> str:
    """Name what does work with a model."""
    tables = {"teacache": cache_tables.COEFFICIENTS, "magcache": cache_tables.RATIOS}
    known = [k for k, t in tables.items() if k != kind and config and config in t]
    return f"{' and '.join([*known, 'easycache'])} would do"


def _time_changes(stage: BoundStage, model: LocatedModel, checkpoint: Checkpoint) -> list[float]:
    """The relative L1 change of the time embedding at each step of a stage, 0 at the first."""
    import torch

    from wanflow.models.weights.checkpoint import STAGING_BYTES
    from wanflow.stages.samplers import Sampling

    module = model.model.module
    times = Sampling.of(stage.params).timesteps()[stage.steps.start : stage.steps.stop]
    staging = torch.empty(STAGING_BYTES, dtype=torch.uint8)

    def linear(name: str, rows: torch.Tensor) -> torch.Tensor:
        weight, bias = (
            torch.empty(module.get_parameter(f"{_TIME}.{name}.{kind}").shape)
            for kind in ("weight", "bias")
        )
        checkpoint.read_into(f"{_TIME}.{name}.weight", weight, staging)
        checkpoint.read_into(f"{_TIME}.{name}.bias", bias, staging)
        return torch.nn.functional.linear(rows, weight, bias)

    with torch.no_grad():
        waves = module.condition_embedder.timesteps_proj(times).float()  # type: ignore[operator, union-attr]
        embedded = linear("linear_2", torch.nn.functional.silu(linear("linear_1", waves)))
        change = (embedded[1:] - embedded[:-1]).abs().mean(1) / embedded[:-1].abs().mean(1)
    return [0.0, *change.tolist()]
