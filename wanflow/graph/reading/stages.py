"""The `stages` section: each stage's op, model, ports and params."""

from __future__ import annotations

from collections.abc import Mapping

from wanflow.graph.ops import OPS, OpSpec, ParamSpec, PortSpec
from wanflow.graph.reading.draft import Draft
from wanflow.graph.reading.tables import Fields, KeyEntry, is_empty, read_table
from wanflow.graph.reading.wires import WireReader
from wanflow.graph.spec import StageSpec, Wire
from wanflow.graph.values import STAGE_ID
from wanflow.graph.wording import listing, quoted

KEYS = ("op", "model", "in", "params")


def read_stages(fields: Fields, draft: Draft) -> None:
    """Read every stage; one with a wrong op is told and left out, other mistakes leave the rest."""
    draft.stage_names.update(fields.entries)
    for name, entry in fields:
        spec = _stage(name, entry, draft)
        if spec is not None:
            draft.stages[name] = spec


def _stage(name: str, entry: KeyEntry, draft: Draft) -> StageSpec | None:
    if not STAGE_ID.fullmatch(name):
        message = f"stage name {quoted(name)} wants small letters, digits and '_'"
        draft.problems.add(
            "bad-name", message, entry.key.mark, suggestion="such as 'encode' or 'denoise_2'"
        )
        return None
    mark = entry.key.mark
    fields = read_table(entry.value, f"stage '{name}'", draft.problems, mark, stage=name)
    if fields is None:
        return None
    fields.check_keys(KEYS, required=("op",))
    op = _op(name, fields)
    if op is None:
        return None
    inputs = fields.entries.get("in")
    return StageSpec(
        name=name, op=op, model=_model(name, fields, op, draft),
        inputs=_ports(name, fields, op, draft), params=_params(name, fields, op, draft),
        mark=mark, model_mark=fields.place("model"), in_mark=inputs.key.mark if inputs else mark,
    )  # fmt: skip


def _op(name: str, fields: Fields) -> OpSpec | None:
    before = fields.problems.count
    word = fields.text("op")
    if word in OPS:
        return OPS[word]
    if "op" in fields.entries and fields.problems.count == before:
        message = f"stage '{name}' has unknown op {quoted(word)}"
        mark = fields.place("op")
        fields.problems.add("unknown-op", message, mark, stage=name, word=word, names=OPS)
    return None


def _model(name: str, fields: Fields, op: OpSpec, draft: Draft) -> str | None:
    before = fields.problems.count
    word = fields.text("model")
    if fields.problems.count > before:
        return None
    mark = fields.place("model")
    if op.model_part is None:
        if "model" in fields.entries:
            message = f"stage '{name}' has a model, but op {op.name} runs without one"
            fields.tell("unwanted-model", message, mark, "remove it")
        return None
    fitting = [m.name for m in draft.models.values() if m.part == op.model_part]
    if not word:
        message = f"stage '{name}' has no model; op {op.name} runs a {op.model_part}"
        advice = f"write model: {listing(fitting)}" if fitting else "declare one under models"
        fields.tell("missing-model", message, mark, advice)
    elif word not in draft.model_names:
        message = f"stage '{name}' has unknown model {quoted(word)}"
        names = draft.model_names
        fields.problems.add("unknown-model", message, mark, stage=name, word=word, names=names)
    elif word in draft.models and word not in fitting:
        part = draft.models[word].part
        message = f"stage '{name}': op {op.name} runs a {op.model_part}, model '{word}' is a {part}"
        advice = f"fitting: {', '.join(fitting)}" if fitting else ""
        fields.tell("model-part", message, mark, advice)
    else:
        return word
    return None


def _ports(name: str, fields: Fields, op: OpSpec, draft: Draft) -> dict[str, Wire]:
    wires: dict[str, Wire] = {}
    table = fields.table("in", f"stage '{name}': 'in'")
    entries = table.entries if table else {}
    if table:
        _tell_unknown(table, "port", op.inputs, op)
    for port, entry in entries.items():
        if port in op.inputs:
            wire = WireReader(draft, name, port).port(entry.value, op.inputs[port])
            if wire is not None:
                wires[port] = wire
    wrong_kind = (
        table is None and "in" in fields.entries and not is_empty(fields.entries["in"].value)
    )
    missing = [p for p, spec in op.inputs.items() if spec.required and p not in entries]
    if missing and not wrong_kind:
        named = listing([f"'{port}'" for port in missing], "and")
        mark = fields.entries["in"].key.mark if "in" in fields.entries else fields.mark
        ports = "port" if len(missing) == 1 else "ports"
        message = f"stage '{name}' has nothing for its required {ports} {named}"
        fields.tell("missing-port", message, mark)
    return wires


def _params(name: str, fields: Fields, op: OpSpec, draft: Draft) -> dict[str, Wire]:
    wires: dict[str, Wire] = {}
    table = fields.table("params", f"stage '{name}': 'params'")
    entries = table.entries if table else {}
    if table:
        _tell_unknown(table, "param", op.params, op)
    for param, entry in entries.items():
        if param in op.params:
            wire = WireReader(draft, name, param).literal(entry.value, op.params[param])
            if wire is not None:
                wires[param] = wire
    return wires


def _tell_unknown(
    fields: Fields, kind: str, known: Mapping[str, PortSpec] | Mapping[str, ParamSpec], op: OpSpec
) -> None:
    for key in fields.adopt_misspelt(known):
        fields.problems.add(
            f"unknown-{kind}", f"stage '{fields.stage}' has unknown {kind} {quoted(key.text)}",
            key.mark, stage=fields.stage, word=key.text, names=known,
            suggestion="" if known else f"op {op.name} has no {kind}s",
        )  # fmt: skip
