"""A graph to look at: plain data, a tree of text, a Mermaid diagram."""

from __future__ import annotations

from wanflow.graph.check import CheckedGraph
from wanflow.graph.inputs import InputSpec
from wanflow.graph.spec import ModelSpec, StageSpec, Wire
from wanflow.graph.values import InputRef, PortRef, Size, Value
from wanflow.terminal.safe import printable


def describe(graph: CheckedGraph) -> dict[str, object]:
    """Give everything about a graph as JSON data, stages in running order."""
    spec = graph.spec
    return {
        "name": spec.name,
        "about": spec.about,
        "file": graph.source.file,
        "inputs": [_input(each) for each in spec.inputs.values()],
        "models": [_model(each) for each in spec.models.values()],
        "stages": [_stage(spec.stages[name]) for name in graph.order],
        "edges": [
            {"from": str(edge.source), "to": str(edge.target), "type": str(edge.type)}
            for edge in graph.edges
        ],
        "outputs": {name: str(output.ref) for name, output in spec.outputs.items()},
    }


def _input(spec: InputSpec) -> dict[str, object]:
    default = str(spec.default) if isinstance(spec.default, Size) else spec.default
    return {
        "name": spec.name,
        "type": str(spec.type),
        "default": default,
        "required": spec.required,
        "about": spec.about,
    }


def _model(spec: ModelSpec) -> dict[str, object]:
    config: object = spec.config or spec.fields
    return {
        "name": spec.name,
        "part": spec.part,
        "config": config,
        "path": spec.path,
        "precision": spec.precision,
        **({"expert": spec.expert} if spec.expert else {}),
    }


def _stage(stage: StageSpec) -> dict[str, object]:
    params = {
        name: _plain(stage.params[name]) if name in stage.params else spec.default
        for name, spec in stage.op.params.items()
    }
    return {
        "stage": stage.name,
        "op": stage.op.name,
        "about": stage.op.about,
        "model": stage.model,
        "repeats": stage.op.repeats,
        "inputs": {port: _plain(wire) for port, wire in stage.inputs.items()},
        "params": params,
        "outputs": {port: str(kind) for port, kind in stage.op.outputs.items()},
    }


def _plain(wire: Wire) -> Value:
    """Write references as in the file; numbers stay numbers."""
    value = wire.value
    return str(value) if isinstance(value, InputRef | PortRef | Size) else value


def as_text(graph: CheckedGraph) -> str:
    """Draw the stages as a tree of text, in running order."""
    rows = [f"{graph.spec.name}: {printable(graph.spec.about)}".rstrip(": ")]
    for name in graph.order:
        rows.extend(_tree(graph.spec.stages[name]))
    rows.extend(f"output {name} = {output.ref}" for name, output in graph.spec.outputs.items())
    return "\n".join(rows)


def _tree(stage: StageSpec) -> list[str]:
    model = f", model {stage.model}" if stage.model else ""
    repeats = f", repeats: {stage.op.repeats.replace('_', ' ')}" if stage.op.repeats else ""
    rows = [f"{stage.name} ({stage.op.name}{model}{repeats})"]
    rows += [f"  {port} <- {_short(wire)}" for port, wire in stage.inputs.items()]
    for name, spec in stage.op.params.items():
        wire = stage.params.get(name)
        rows.append(f"  {name} = {_short(wire) if wire else f'{spec.default} (default)'.lstrip()}")
    return rows


def _short(wire: Wire) -> str:
    text = printable(str(wire.value))
    return text if len(text) <= 60 else text[:59] + "…"


def as_mermaid(graph: CheckedGraph) -> str:
    """Draw the stages as a Mermaid flowchart, which GitHub renders."""
    spec = graph.spec
    rows = ["flowchart LR"]
    for name in graph.order:
        stage = spec.stages[name]
        model = f"<br/>{stage.model}" if stage.model else ""
        rows.append(f'    s_{name}["{name}<br/>{stage.op.name}{model}"]')
    for edge in graph.edges:
        label = str(edge.type).replace("_", " ")
        rows.append(f"    s_{edge.source.stage} -- {label} --> s_{edge.target.stage}")
    for name, output in spec.outputs.items():
        rows.append(f"    s_{output.ref.stage} -- {output.ref.port} --> o_{name}([{name}])")
    return "\n".join(rows) + "\n"
