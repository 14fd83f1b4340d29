"""Edges: what a stage or an output refers to exists, and gives what is wanted."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from wanflow.graph.ops import PortType
from wanflow.graph.reading.draft import Draft
from wanflow.graph.source import Mark
from wanflow.graph.spec import ModelSpec, StageSpec
from wanflow.graph.values import PortRef
from wanflow.graph.wording import quoted


@attrs.frozen
class Edge:
    """A value goes from a stage's output to a port of another stage."""

    source: PortRef
    target: PortRef
    type: PortType
    mark: Mark


def find_edges(draft: Draft) -> list[Edge]:
    """Resolve every reference between stages; wrong ones are told and left out."""
    edges = []
    for stage in draft.stages.values():
        for port, wire in stage.inputs.items():
            if isinstance(wire.value, PortRef):
                target = PortRef(stage.name, port)
                kind = _resolve(draft, wire.value, wire.mark, f"'{target}'", stage.name)
                if kind is not None:
                    edge = Edge(wire.value, target, kind, wire.mark)
                    if _is_sound(draft, stage, edge):
                        edges.append(edge)
    return edges


def check_outputs(draft: Draft) -> None:
    """Check what the graph's outputs refer to."""
    for name, output in draft.outputs.items():
        kind = _resolve(draft, output.ref, output.mark, f"output '{name}'", "")
        if kind is PortType.FRAMES:
            message = f"output '{name}' names the stream '{output.ref}', which nothing keeps"
            advice = "write it with write_video or write_frames"
            draft.problems.add("stream-output", message, output.mark, suggestion=advice)


def _resolve(draft: Draft, ref: PortRef, mark: Mark, who: str, stage: str) -> PortType | None:
    """Give the type of an output port; None when it isn't there or its stage is wrong."""
    if ref.stage not in draft.stage_names:
        message = f"{who} refers to unknown stage {quoted(ref.stage)}"
        draft.problems.add(
            "unknown-stage", message, mark, stage=stage, word=ref.stage, names=draft.stage_names
        )
        return None
    giver = draft.stages.get(ref.stage)
    if giver is None:
        return None
    if ref.port not in giver.op.outputs:
        message = f"{who} refers to {quoted(str(ref))}, which {giver.op.name} doesn't give"
        names = giver.op.outputs
        draft.problems.add("unknown-output", message, mark, stage=stage, word=ref.port, names=names)
        return None
    return giver.op.outputs[ref.port]


def _is_sound(draft: Draft, stage: StageSpec, edge: Edge) -> bool:
    wanted = stage.op.inputs[edge.target.port].type
    giver = draft.stages[edge.source.stage]
    if edge.type is not wanted:
        message = f"'{edge.target}' wants {wanted}, '{edge.source}' gives {edge.type}"
        note = f"produced at {draft.problems.place(giver.mark)}"
        draft.problems.add("port-type", message, edge.mark, stage=stage.name, note=note)
        return False
    if giver.name == stage.name:
        message = f"stage '{stage.name}' takes its own output '{edge.source}'"
        draft.problems.add("self-reference", message, edge.mark, stage=stage.name)
        return False
    return True


# What two models must agree on when a value goes from one to the other.
_WIDTHS = {
    PortType.TEXT_EMBEDDING: {"text_encoder": "d_model", "transformer": "text_dim"},
    PortType.IMAGE_EMBEDDING: {"image_encoder": "hidden_size", "transformer": "image_dim"},
    # Not what goes in: noise and a condition share those channels.
    PortType.LATENTS: {"transformer": "out_channels", "vae": "z_dim"},
}


def check_widths(draft: Draft, edges: list[Edge]) -> None:
    """Tell models that don't fit together: text 128 wide into a transformer that wants 4096."""
    for edge in edges:
        giver = _model(draft, edge.source.stage)
        taker = _model(draft, edge.target.stage)
        if giver is None or taker is None:
            continue
        gives, takes = _width(giver, edge.type), _width(taker, edge.type)
        if gives is not None and takes is not None and gives != takes:
            message = (
                f"model '{taker.name}' wants {edge.type} {takes} wide, '{giver.name}' gives {gives}"
            )
            stage = edge.target.stage
            note = f"'{giver.name}' is at {draft.problems.place(giver.mark)}"
            draft.problems.add("model-mismatch", message, edge.mark, stage=stage, note=note)


def _model(draft: Draft, stage: str) -> ModelSpec | None:
    return draft.models.get(draft.stages[stage].model or "")


def _width(model: ModelSpec, kind: PortType) -> object:
    fields: Mapping[str, object] = model.fields or {}
    return fields.get(_WIDTHS.get(kind, {}).get(model.part, ""))
