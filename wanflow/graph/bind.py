"""A checked graph with the user's values in it: nothing left to look up or to default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from wanflow.errors import InputError
from wanflow.graph.bound import BoundGraph, BoundStage
from wanflow.graph.check import CheckedGraph
from wanflow.graph.checks.said import Asked, as_said
from wanflow.graph.checks.stages import ENCODERS, check_pictures, check_stages, file_ports
from wanflow.graph.idle import without_idle
from wanflow.graph.inputs import FILE_TYPES, InputSpec
from wanflow.graph.rules import VideoRules
from wanflow.graph.spec import StageSpec
from wanflow.graph.values import InputRef, PortRef, Size, Value, ValueType
from wanflow.graph.wanted import MisfitError, Wanted, fit, fit_text
from wanflow.graph.wording import did_you_mean, quoted


def bind(
    graph: CheckedGraph,
    inputs: Mapping[str, str | int | float | Size] | None = None,
    settings: Mapping[str, str | int | float] | None = None,
    rules: VideoRules | None = None,
    *,
    allow_missing_text: bool = False,
) -> BoundGraph:
    """Put values into a graph; text is read by the type of the input it is for.

    Args:
        graph: What `load` gave.
        inputs: Values by input name (`-i NAME=VALUE`).
        settings: Params by `stage.param`, above what the file says (`--set`).
        rules: Needed when a model's configuration comes from its weights; else the graph's own.
        allow_missing_text: Plan without a prompt or a picture: text nobody gave is "".
    """
    rules = rules or graph.rules
    values = _inputs(graph, inputs or {}, rules, allow_missing_text)
    forced = _settings(graph, settings or {})
    spec, asked = graph.spec, Asked(frozenset(forced), frozenset(inputs or {}))
    stages = tuple(
        as_said(_stage(spec.stages[name], values, forced, rules), spec.stages[name], asked)
        for name in graph.order
    )
    outputs = {name: out.ref for name, out in spec.outputs.items()}
    bound = BoundGraph(
        name=spec.name, about=spec.about, source=graph.source, inputs=values, models=spec.models,
        stages=stages, outputs=outputs, rules=rules,
    )  # fmt: skip
    bound = without_idle(bound, _spared(graph, stages))
    check_stages(bound.stages)
    check_pictures(bound)
    return bound


def _spared(graph: CheckedGraph, stages: tuple[BoundStage, ...]) -> frozenset[str]:
    """Name the encoders of files that the graph lets one leave out, and that are left out."""
    idle = set()
    for stage in stages:
        wires = graph.spec.stages[stage.name].inputs
        refs = [w.value for port, w in wires.items() if port in file_ports(stage)]
        may_go = [isinstance(r, InputRef) and graph.spec.inputs[r.name].default == "" for r in refs]
        needs = stage.op.name in ENCODERS and refs and all(may_go)
        if needs and not any(stage.inputs.get(port) for port in file_ports(stage)):
            idle.add(stage.name)
    return frozenset(idle)


def _inputs(
    graph: CheckedGraph,
    values: Mapping[str, str | int | float | Size],
    rules: VideoRules | None,
    allow_missing_text: bool,
) -> dict[str, Value]:
    specs = graph.spec.inputs
    for name in values:
        if name not in specs:
            message = f"graph '{graph.spec.name}' has no input {quoted(name)}"
            raise InputError(message, hint=did_you_mean(name, specs), code="unknown-input")
    bound: dict[str, Value] = {}
    for name, spec in specs.items():
        if name in values:
            bound[name] = _fit(values[name], spec, f"input '{name}'", rules)
        elif spec.default is not None:
            bound[name] = spec.default
        elif spec.type is ValueType.TEXT and allow_missing_text:
            bound[name] = ""
        elif spec.type in FILE_TYPES and allow_missing_text:
            bound[name] = f"({name})"  # something: nothing would be another plan
        else:
            raise _missing(graph, spec)
    return bound


def _missing(graph: CheckedGraph, spec: InputSpec) -> InputError:
    option = "--prompt" if spec.name == "prompt" else f"-i {spec.name}=..."
    example = '--prompt "a red kite over the sea"' if spec.name == "prompt" else option
    message = f"graph '{graph.spec.name}' needs {option}"
    return InputError(message, hint=f"add {example}", code="missing-input")


def _fit(value: object, wanted: Wanted, what: str, rules: VideoRules | None) -> Value:
    try:
        if isinstance(value, str):
            return fit_text(value, wanted, rules)
        return fit(value, wanted, rules)
    except MisfitError as misfit:
        message = f"{what} {misfit.message}"
        raise InputError(message, hint=misfit.suggestion, code=misfit.code) from None


def _settings(graph: CheckedGraph, settings: Mapping[str, str | int | float]) -> dict[str, Value]:
    forced: dict[str, Value] = {}
    for key, value in settings.items():
        name, _, param = key.partition(".")
        stages = graph.spec.stages
        if name not in stages:
            raise InputError(
                f"--set {quoted(key)}: graph '{graph.spec.name}' has no stage {quoted(name)}",
                hint=did_you_mean(name, stages),
                code="unknown-stage",
            )
        params = stages[name].op.params
        if param not in params:
            raise InputError(
                f"--set {quoted(key)}: stage '{name}' has no param {quoted(param)}",
                hint=did_you_mean(param, params) or f"op {stages[name].op.name} has no params",
                code="unknown-param",
            )
        forced[key] = _fit(value, params[param], f"--set {key}", None)
    return forced


def _stage(
    stage: StageSpec,
    values: Mapping[str, Value],
    forced: Mapping[str, Value],
    rules: VideoRules | None,
) -> BoundStage:
    inputs: dict[str, Value | PortRef] = {}
    for port, wire in stage.inputs.items():
        wanted = stage.op.inputs[port].wanted
        if isinstance(wire.value, PortRef):
            inputs[port] = wire.value
        elif wanted is not None:
            inputs[port] = _resolve(wire.value, wanted, f"'{stage.name}.{port}'", values, rules)
    params: dict[str, Value] = {}
    for name, spec in stage.op.params.items():
        key = f"{stage.name}.{name}"
        if key in forced:
            params[name] = forced[key]
        elif name in stage.params:
            literal = cast("Value | InputRef", stage.params[name].value)  # params take no stage
            params[name] = _resolve(literal, spec, f"'{key}'", values, rules)
        else:
            params[name] = spec.default
    steps = range(cast("int", params["steps"])) if stage.op.repeats == "steps" else range(1)
    return BoundStage(stage.name, stage.op, stage.model, inputs, params, steps)


def _resolve(
    value: Value | InputRef,
    wanted: Wanted,
    what: str,
    values: Mapping[str, Value],
    rules: VideoRules | None,
) -> Value:
    """Give what an input or a literal is at its port, where the range may be narrower."""
    if not isinstance(value, InputRef):
        return _typed(value, wanted, what, rules)
    return _typed(values[value.name], wanted, f"input '{value.name}' at {what}", rules)


def _typed(value: Value, wanted: Wanted, what: str, rules: VideoRules | None) -> Value:
    try:
        return fit(value, wanted, rules)
    except MisfitError as misfit:
        message = f"{what} {misfit.message}"
        raise InputError(message, hint=misfit.suggestion, code=misfit.code) from None
