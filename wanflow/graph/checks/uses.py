"""What the whole graph makes of its parts: values at their ports, files, models and streams."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from wanflow.graph.checks.edges import Edge
from wanflow.graph.ops import PortType
from wanflow.graph.reading.draft import Draft
from wanflow.graph.rules import VideoRules
from wanflow.graph.spec import Wire
from wanflow.graph.values import InputRef, PortRef
from wanflow.graph.wanted import MisfitError, Wanted, fit


def video_rules(draft: Draft) -> VideoRules | None:
    """Give the rules of the graph's models; None while a configuration is not known."""
    fields = {
        part: [model.fields for model in draft.models.values() if model.part == part]
        for part in ("transformer", "vae")
    }
    if any(None in configs for configs in fields.values()):
        return None
    return VideoRules.all_of(
        VideoRules.of(transformer, vae)
        for transformer in fields["transformer"]
        for vae in fields["vae"]
        if transformer is not None and vae is not None
    )


@attrs.frozen
class _Use:
    stage: str
    name: str
    wire: Wire
    wanted: Wanted


def _uses(draft: Draft) -> Iterator[_Use]:
    for stage in draft.stages.values():
        for port, wire in stage.inputs.items():
            wanted = stage.op.inputs[port].wanted
            if wanted is not None and not isinstance(wire.value, PortRef):
                yield _Use(stage.name, port, wire, wanted)
        for param, wire in stage.params.items():
            yield _Use(stage.name, param, wire, stage.op.params[param])


def check_values(draft: Draft, rules: VideoRules | None) -> None:
    """Check literals and the defaults of inputs where they are used."""
    for use in _uses(draft):
        value, mark, what = use.wire.value, use.wire.mark, f"'{use.stage}.{use.name}'"
        if isinstance(value, InputRef):
            spec = draft.inputs[value.name]
            if spec.default is None:
                continue
            value = spec.default
            mark, what = spec.default_mark or mark, f"default of input '{spec.name}'"
        try:
            fit(value, use.wanted, rules)
        except MisfitError as misfit:
            draft.problems.add(
                misfit.code, f"{what} {misfit.message}", mark,
                stage="" if what.startswith("default") else use.stage, suggestion=misfit.suggestion,
            )  # fmt: skip


def check_files(draft: Draft) -> None:
    """Tell two stages that write to the same place, as far as the file says it."""
    writers: dict[str, str] = {}
    for stage in draft.stages.values():
        param = stage.op.params.get("name")
        if param is None:
            continue
        wire = stage.params.get("name")
        value = wire.value if wire else param.default
        if isinstance(value, InputRef):
            value = draft.inputs[value.name].default or ""
        first = writers.setdefault(str(value).lower(), stage.name)
        if first != stage.name and value:
            message = f"stages '{first}' and '{stage.name}' both write '{value}'"
            mark = wire.mark if wire else stage.mark
            advice = "give one of them another name: under params"
            draft.problems.add("same-file", message, mark, stage=stage.name, suggestion=advice)


def check_unused(draft: Draft, edges: list[Edge]) -> None:
    """Tell models that no stage runs and streams that nothing reads."""
    used = {stage.model for stage in draft.stages.values()}
    for model in draft.models.values():
        if model.name not in used:
            message = f"no stage runs model '{model.name}'"
            draft.problems.add("unused-model", message, model.mark, suggestion="remove it")
    read = {edge.source for edge in edges}
    for stage in draft.stages.values():
        for port, kind in stage.op.outputs.items():
            if kind is PortType.FRAMES and PortRef(stage.name, port) not in read:
                message = f"no stage reads the stream '{stage.name}.{port}'"
                advice = "write it with write_video or write_frames"
                draft.problems.add(
                    "unread-stream", message, stage.mark, stage=stage.name, suggestion=advice
                )
