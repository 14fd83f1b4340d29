"""A checked graph with the user's values in it: nothing left to look up or to default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import attrs

from wanflow.errors import InputError
from wanflow.graph.check import CheckedGraph
from wanflow.graph.inputs import FILE_TYPES, InputSpec
from wanflow.graph.ops import OpSpec
from wanflow.graph.rules import VideoRules
from wanflow.graph.source import Source
from wanflow.graph.spec import ModelSpec, StageSpec
from wanflow.graph.values import InputRef, PortRef, Size, Value, ValueType
from wanflow.graph.wanted import MisfitError, Wanted, fit, fit_text
from wanflow.graph.wording import did_you_mean, listing, quoted


@attrs.frozen
class BoundStage:
    """A stage with every port fed by a value or another stage's output, and every param set."""

    name: str
    op: OpSpec
    model: str | None
    inputs: Mapping[str, Value | PortRef]
    params: Mapping[str, Value]


@attrs.frozen
class BoundGraph:
    """A graph ready to plan; `stages` are in running order."""

    name: str
    about: str
    source: Source
    inputs: Mapping[str, Value]
    models: Mapping[str, ModelSpec]
    stages: tuple[BoundStage, ...]
    outputs: Mapping[str, PortRef]
    rules: VideoRules | None

    def plain_inputs(self) -> dict[str, str | int | float]:
        """Give the inputs, sizes as text."""
        return {n: str(v) if isinstance(v, Size) else v for n, v in self.inputs.items()}

    def stage(self, name: str) -> BoundStage:
        """Give a stage by name."""
        bound = next((stage for stage in self.stages if stage.name == name), None)
        if bound is None:
            names = [stage.name for stage in self.stages]
            message = f"graph '{self.name}' has no stage {quoted(name)}"
            raise InputError(message, hint=did_you_mean(name, names), code="unknown-stage")
        return bound

    def noise_of(self, stage: BoundStage) -> BoundStage | None:
        """Find the stage that says the size and frames of the latents of `stage`, or None."""
        while "size" not in stage.op.inputs:
            ref = stage.inputs.get("latents")
            if not isinstance(ref, PortRef):
                return None
            stage = self.stage(ref.stage)
        return stage

    def turns(self, stage: BoundStage) -> int:
        """Count the steps of a stage; 1 when it doesn't repeat."""
        if stage.op.repeats == "":
            return 1
        if stage.op.repeats == "steps":
            return cast("int", stage.params["steps"])
        noise = self.noise_of(stage)
        frames = cast("int", noise.inputs["frames"]) if noise else 1
        return (self.rules or VideoRules()).latent_frames(frames)


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
    spec = graph.spec
    stages = tuple(_stage(spec.stages[name], values, forced, rules) for name in graph.order)
    _check_files(stages)
    _check_pictures(stages)
    _check_grids(stages)
    return BoundGraph(
        name=spec.name, about=spec.about, source=graph.source, inputs=values, models=spec.models,
        stages=stages, outputs={name: out.ref for name, out in spec.outputs.items()}, rules=rules,
    )  # fmt: skip


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
    return BoundStage(stage.name, stage.op, stage.model, inputs, params)


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


def _check_pictures(stages: tuple[BoundStage, ...]) -> None:
    """Something must be given to encode, and no frame twice."""
    for stage in stages:
        ports = [
            port
            for port, spec in stage.op.inputs.items()
            if spec.wanted is not None and spec.wanted.type in FILE_TYPES
        ]
        pictures = [port for port in ports if stage.inputs.get(port)]
        if ports and not pictures:
            message = f"stage '{stage.name}' has nothing to encode"
            raise InputError(message, hint=f"give {listing(ports)}", code="missing-input")
        if "video" in pictures and len(pictures) > 1:
            message = f"stage '{stage.name}' has {listing(pictures, 'and')}: a video has all frames"
            raise InputError(message, hint="leave one out", code="frames-twice")
        if "last_image" in pictures and stage.inputs.get("frames") == 1:
            message = f"stage '{stage.name}' has a last image and one frame"
            raise InputError(message, hint="ask for 5 frames or more", code="frames-twice")


def _check_grids(stages: tuple[BoundStage, ...]) -> None:
    for stage in stages:
        if (stage.params.get("grid"), stage.params.get("sampler")) == ("official", "euler"):
            raise InputError(
                f"stage '{stage.name}': Wan's own code has no grid for euler",
                hint=f"leave '{stage.name}.grid' at diffusers, or take unipc or dpm++",
                code="no-such-grid",
            )


def _check_files(stages: tuple[BoundStage, ...]) -> None:
    writers: dict[str, str] = {}
    for stage in stages:
        name = stage.params.get("name")
        if isinstance(name, str):
            first = writers.setdefault(name.lower(), stage.name)
            if first != stage.name:
                raise InputError(
                    f"stages '{first}' and '{stage.name}' both write '{name}'",
                    hint=f"add --set {stage.name}.name=...",
                    code="same-file",
                )
