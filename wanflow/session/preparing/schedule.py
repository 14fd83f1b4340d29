"""Which steps of its schedule a stage runs; one without any is not there."""

from __future__ import annotations

import attrs

from wanflow.graph import BoundGraph, BoundStage
from wanflow.graph.idle import without_idle

_ALL = {"noise_from": 1.0, "noise_to": 0.0, "strength": 1.0}


def scheduled(graph: BoundGraph) -> BoundGraph:
    """Give every stage that repeats its own steps, before anything of its model is looked at."""
    stages = tuple(map(_scheduled, graph.stages))
    idle = [stage.name for stage in stages if not stage.steps]
    return without_idle(attrs.evolve(graph, stages=stages), idle)


def _scheduled(stage: BoundStage) -> BoundStage:
    params = stage.params
    if stage.op.repeats != "steps" or all(params[name] == all_ for name, all_ in _ALL.items()):
        return stage
    from wanflow.stages.samplers import Sampling  # with a sampler, which a whole schedule needs not

    bounds = (float(str(params[name])) for name in ("noise_from", "noise_to"))
    return attrs.evolve(stage, steps=Sampling.of(params).between(*bounds))
