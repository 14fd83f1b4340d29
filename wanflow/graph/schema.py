"""JSON Schema of a graph file, for editors; made from the same tables that check it.

It knows shapes, names and ranges. What needs the whole graph (references, types of edges, cycles)
only `wanflow graph check` can say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from wanflow.graph.config_fields import FIELDS, Field, required_fields
from wanflow.graph.configs import EXPERTS, KNOWN, PARTS
from wanflow.graph.inputs import INPUT_TYPES, STANDARD
from wanflow.graph.ops import OPS, OpSpec, PortSpec
from wanflow.graph.reading.file import GRAPH_NAME, VERSION
from wanflow.graph.reading.loras import MOST_LORAS
from wanflow.graph.reading.models import PRECISIONS
from wanflow.graph.values import STAGE_ID, ValueType
from wanflow.graph.wanted import Wanted

Schema = dict[str, object]

_ID = f"^{STAGE_ID.pattern}$"
_INPUT = r"^\$[A-Za-z_][A-Za-z0-9_-]*$"
_PORT = r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"
_SIZE = r"^[0-9]{2,4}[*x][0-9]{2,4}$"
_NUMBERS = r"^[-+0-9.eE, ]*$"
_NAME = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$"


def json_schema() -> Schema:
    """Give the schema (draft-07) of a graph file."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "wanflow graph",
        "description": "What to compute: inputs, models, stages and outputs.",
        **_table(
            {
                "wanflow": {"const": VERSION, "description": "Version of the graph format."},
                "name": {"type": "string", "pattern": f"^{GRAPH_NAME.pattern}$"},
                "about": {"type": "string", "description": "One line on what the graph makes."},
                "inputs": _inputs(),
                "models": {**_map(_model()), "description": "Named weights."},
                "stages": {**_map(_stage()), "minProperties": 1},
                "outputs": {
                    **_map({"type": "string", "pattern": _PORT}),
                    "minProperties": 1,
                    "description": "Results by name, each a STAGE.PORT.",
                },
            },
            required=["wanflow", "name", "stages", "outputs"],
        ),
    }


def schema_text() -> str:
    """Give the schema as the file that comes with wanflow, byte for byte."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def _table(properties: Mapping[str, object], required: list[str]) -> Schema:
    shape: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**shape, "required": required} if required else shape


def _map(values: Schema) -> Schema:
    return {"type": "object", "propertyNames": {"pattern": _ID}, "additionalProperties": values}


def _inputs() -> Schema:
    value: Schema = {"type": ["string", "number", "null"]}
    bound: Schema = {"type": ["number", "null"]}

    def declaration(types: list[str], about: str) -> Schema:
        properties = {
            "type": {"enum": types},
            "default": value,
            "min": bound,
            "max": bound,
            "choices": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "like": {"type": "string", "pattern": _ID},
            "about": {"type": "string"},
        }
        return {**_table(properties, ["type"]), **({"description": about} if about else {})}

    standard = {name: declaration([str(s.type)], s.about) for name, s in STANDARD.items()}
    return {
        "type": ["object", "null"],
        "description": "What the user can set. Standard inputs need no declaration.",
        "propertyNames": {"pattern": _ID},
        "properties": standard,
        "additionalProperties": declaration([str(kind) for kind in INPUT_TYPES], ""),
    }


def _model() -> Schema:
    properties: Schema = {
        "part": {"enum": list(PARTS)},
        "config": {"description": "A known configuration, or its fields."},
        "path": {"type": "string", "description": "Weights, relative to this file."},
        "precision": {"enum": list(PRECISIONS)},
        "expert": {"enum": list(EXPERTS), "description": "Which of two transformers it is."},
        "loras": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "maxItems": MOST_LORAS,
            "description": "Files, relative to this one, each with @WEIGHT or 1, in order.",
        },
    }
    by_part = [_when("part", part, _of_part(part)) for part in PARTS]
    return {**_table(properties, ["part"]), "allOf": by_part}


def _of_part(part: str) -> Schema:
    config: Schema = {"config": {"anyOf": [{"enum": _names(part)}, _config(part)]}}
    return config if part == "transformer" else {**config, "expert": False, "loras": False}


def _names(part: str) -> list[object]:
    return [*(name for name, parts in KNOWN.items() if part in parts), None]


def _config(part: str) -> Schema:
    fields = {name: _field(field) for name, field in FIELDS[part].items()}
    return _table(fields, required_fields(part))


def _field(field: Field) -> Schema:
    if field.kind.endswith("s"):
        one = Field(field.kind[:-1], field.minimum, field.maximum, field.choices)
        kind: object = ["array", "null"] if field.nullable else "array"
        return {"type": kind, "items": _field(one), "maxItems": 64}
    if field.kind == "text":
        return {"enum": list(field.choices)}
    if field.kind == "bool":
        return {"type": "boolean"}
    number = "integer" if field.kind == "int" else "number"
    types: object = [number, "null"] if field.nullable else number
    return {"type": types, "minimum": field.minimum, "maximum": field.maximum}


def _stage() -> Schema:
    properties: Schema = {
        "op": {"enum": list(OPS), "description": "The kind of the stage."},
        "model": {"type": "string", "pattern": _ID},
        "in": {"type": ["object", "null"]},
        "params": {"type": ["object", "null"]},
    }
    return {**_table(properties, ["op"]), "allOf": [_of_op(op) for op in OPS.values()]}


def _of_op(op: OpSpec) -> Schema:
    ports = {name: _port(port) for name, port in op.inputs.items()}
    needed = [name for name, port in op.inputs.items() if port.required]
    params = {
        name: {**_value(spec), "description": spec.about, "default": spec.default}
        for name, spec in op.params.items()
    }
    sections: Schema = {
        "op": {"description": op.about},
        "in": _table(ports, needed),
        "params": {**_table(params, []), "type": ["object", "null"]},
    }
    required = ["in", *(["model"] if op.model_part else [])]
    if op.model_part is None:
        sections["model"] = False
    return _when("op", op.name, sections, required)


def _port(port: PortSpec) -> Schema:
    if port.wanted is None:
        return {"type": "string", "pattern": _PORT, "description": port.about}
    return {**_value(port.wanted), "description": port.about}


def _value(wanted: Wanted) -> Schema:
    """Allow a literal or a reference to an input."""
    return {"anyOf": [_literal(wanted), {"type": "string", "pattern": _INPUT}]}


def _literal(wanted: Wanted) -> Schema:
    if wanted.type in (ValueType.INT, ValueType.FLOAT):
        kind = "integer" if wanted.type is ValueType.INT else "number"
        return {"type": kind, "minimum": wanted.minimum, "maximum": wanted.maximum}
    if wanted.type is ValueType.NUMBERS:
        bounds = {"minimum": wanted.minimum, "maximum": wanted.maximum}
        one = {"type": "number", **{name: v for name, v in bounds.items() if v is not None}}
        text = {"type": "string", "pattern": _NUMBERS}
        return {"anyOf": [one, {"type": "array", "items": one}, text]}
    if wanted.choices:
        return {"enum": list(wanted.choices)}
    patterns = {
        ValueType.SIZE: _SIZE,
        ValueType.FILE_NAME: r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,95}\.mp4$",
        ValueType.PICTURE_NAME: r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,95}\.png$",
        ValueType.FOLDER_NAME: _NAME,
    }
    pattern = patterns.get(wanted.type)
    return {"type": "string", **({"pattern": pattern} if pattern else {})}


def _when(key: str, value: str, then: Schema, required: list[str] | None = None) -> Schema:
    condition = {"properties": {key: {"const": value}}, "required": [key]}
    needs = {"required": required} if required else {}
    return {"if": condition, "then": {"properties": then, **needs}}
