"""The `models` section: which part, which configuration, where the weights are, how precise."""

from __future__ import annotations

from wanflow.graph.config_fields import FIELDS, inconsistencies, required_fields, shared_fields
from wanflow.graph.configs import EXPERTS, KNOWN, PARTS, known_config
from wanflow.graph.reading.draft import Draft
from wanflow.graph.reading.loras import read_loras
from wanflow.graph.reading.nodes import Listing, MappingNode, Node, Scalar
from wanflow.graph.reading.scalars import resolve
from wanflow.graph.reading.tables import Fields, KeyEntry, is_empty, read_table, what_node
from wanflow.graph.spec import ModelSpec
from wanflow.graph.values import STAGE_ID
from wanflow.graph.wording import quoted
from wanflow.terminal.safe import printable

KEYS = ("part", "config", "path", "precision", "expert", "loras")
PRECISIONS = ("fp32", "bf16", "fp16")


def read_models(fields: Fields, draft: Draft) -> None:
    """Read every model; a wrong one is told, and left out."""
    for name, entry in fields:
        draft.model_names.add(name)
        spec = _model(name, entry, draft)
        if spec is not None:
            draft.models[name] = spec


def _model(name: str, entry: KeyEntry, draft: Draft) -> ModelSpec | None:
    if not STAGE_ID.fullmatch(name):
        message = f"model name {quoted(name)} wants small letters, digits and '_'"
        draft.problems.add("bad-name", message, entry.key.mark)
        return None
    fields = read_table(entry.value, f"model '{name}'", draft.problems, entry.key.mark)
    if fields is None or not fields.check_keys(KEYS, required=("part",)):
        return None
    before = draft.problems.count
    part = _word(fields, "part", PARTS, "")
    precision = _word(fields, "precision", PRECISIONS, "fp32")
    expert = _expert(fields, part)
    path = _path(fields)
    loras = read_loras(fields, part)
    config = fields.entries.get("config")
    config_name, values = _config(fields, config.value, part) if config and part else ("", None)
    if draft.problems.count > before:
        return None
    return ModelSpec(
        name=name, part=part, config=config_name, fields=values, path=path, precision=precision,
        expert=expert, loras=loras, mark=entry.key.mark,
    )  # fmt: skip


def _word(fields: Fields, key: str, allowed: tuple[str, ...], default: str) -> str:
    before = fields.problems.count
    word = fields.text(key, default)
    if word in allowed or (word == default and key not in fields.entries):
        return word
    if fields.problems.count == before:
        message = f"{fields.what} has unknown {key} {quoted(word)}"
        fields.problems.add(f"unknown-{key}", message, fields.place(key), word=word, names=allowed)
    return ""


def _expert(fields: Fields, part: str) -> str:
    expert = _word(fields, "expert", EXPERTS, "")
    if expert and part not in ("", "transformer"):
        message = f"{fields.what}: a {part} has no 'expert', only a transformer has"
        fields.tell("expert-part", message, fields.place("expert"))
    return expert


def _path(fields: Fields) -> str:
    path = fields.text("path")
    if path != printable(path):
        message = f"{fields.what}: 'path' has characters that no path has"
        fields.tell("bad-path", message, fields.place("path"))
    return path


def _config(fields: Fields, node: Node, part: str) -> tuple[str, dict[str, object] | None]:
    """Give the name and the fields of a configuration; no fields when it is wrong or empty."""
    if is_empty(node):
        return "", None
    if isinstance(node, MappingNode):
        return "", _written_out(fields, node, part)
    name = fields.text("config")
    if name and name not in KNOWN:
        message = f"{fields.what} has unknown config {quoted(name)}"
        fields.problems.add("unknown-config", message, node.mark, word=name, names=KNOWN)
    elif name and part not in KNOWN[name]:
        message = f"{fields.what}: config '{name}' has no {part}"
        fields.problems.add("config-part", message, node.mark, word=part, names=KNOWN[name])
    elif name:
        return name, known_config(name, part)
    return "", None


def _written_out(fields: Fields, node: MappingNode, part: str) -> dict[str, object] | None:
    """Read a configuration field by field; those all known ones agree on may be left out."""
    what = f"config of {fields.what}"
    config = read_table(node, what, fields.problems, fields.entries["config"].key.mark)
    allowed = FIELDS[part]
    if config is None or not config.check_keys(allowed, required_fields(part)):
        return None
    values, sane = shared_fields(part), True
    for name, entry in config:
        values[name] = _plain(entry.value)
        if refusal := allowed[name].refusal(values[name]):
            config.tell(
                "bad-config",
                f"{what}: '{name}' {refusal}, is {what_node(entry.value)}",
                entry.value.mark,
            )
            sane = False
    for message in inconsistencies(part, values) if sane else []:
        config.tell("bad-config", f"{what}: {message}", config.mark)
    return values


def _plain(node: Node) -> object:
    """Give a field as data: a scalar or a flat list; anything deeper no field accepts."""
    if isinstance(node, Scalar):
        return resolve(node)
    if isinstance(node, Listing):
        return [resolve(item) if isinstance(item, Scalar) else None for item in node.items]
    return {}
