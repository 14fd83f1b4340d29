"""Stages that have nothing to do are not there: who would read them reads what they would have."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from wanflow.errors import InputError
from wanflow.graph.bound import BoundGraph, BoundStage
from wanflow.graph.values import PortRef, Value


def without_idle(graph: BoundGraph, idle: Collection[str]) -> BoundGraph:
    """Leave the stages *idle* out, and the models that nothing runs then.

    What a stage would have made of its input of the same name is that input; what else it would
    have made is not there. InputError where something can't go without.
    """
    if not idle:
        return graph
    stages = tuple(_rewired(graph, stage, idle) for stage in graph.stages if stage.name not in idle)
    used = {stage.model for stage in stages}
    outputs = {name: _passed_on(graph, ref, idle) for name, ref in graph.outputs.items()}
    lost = next((name for name, ref in outputs.items() if not isinstance(ref, PortRef)), None)
    if lost is not None:
        raise _missing(f"output '{lost}'", graph.outputs[lost])
    return attrs.evolve(
        graph,
        stages=stages,
        models={name: model for name, model in graph.models.items() if name in used},
        outputs={name: ref for name, ref in outputs.items() if isinstance(ref, PortRef)},
    )


def _rewired(graph: BoundGraph, stage: BoundStage, idle: Collection[str]) -> BoundStage:
    inputs: dict[str, Value | PortRef] = {}
    for port, fed in stage.inputs.items():
        value = _passed_on(graph, fed, idle) if isinstance(fed, PortRef) else fed
        if value is not None:
            inputs[port] = value
        elif stage.op.inputs[port].required:
            raise _missing(f"'{stage.name}.{port}'", fed)
    return attrs.evolve(stage, inputs=inputs)


def _passed_on(graph: BoundGraph, ref: PortRef, idle: Collection[str]) -> Value | PortRef | None:
    """What is there in place of an output of an idle stage."""
    source: Value | PortRef | None = ref
    while isinstance(source, PortRef) and source.stage in idle:
        source = graph.stage(source.stage).inputs.get(source.port)
    return source


def _missing(who: str, ref: object) -> InputError:
    return InputError(
        f"{who} wants '{ref}', which has nothing to work on",
        hint="give its inputs",
        code="missing-input",
    )
