"""The top of a graph file: version, name, and its four sections in the order they build on."""

from __future__ import annotations

import re

from wanflow.graph.problems import ProblemList
from wanflow.graph.reading.draft import Draft
from wanflow.graph.reading.inputs import read_inputs
from wanflow.graph.reading.models import read_models
from wanflow.graph.reading.nodes import Node, Scalar
from wanflow.graph.reading.stages import read_stages
from wanflow.graph.reading.tables import Fields, read_table, what_node
from wanflow.graph.source import Mark
from wanflow.graph.spec import OutputSpec
from wanflow.graph.values import STAGE_ID, parse_port_ref
from wanflow.graph.wording import quoted, what_is

KEYS = ("wanflow", "name", "about", "inputs", "models", "stages", "outputs")
VERSION = 1
GRAPH_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def read_file(root: Node, problems: ProblemList) -> Draft:
    """Read the whole tree of a graph file; its mistakes are in `problems`."""
    draft = Draft(problems)
    fields = read_table(root, "a graph file", problems, Mark(1, 1))
    if fields is None:
        return draft
    fields.check_keys(KEYS, required=("wanflow", "name", "stages", "outputs"))
    _version(fields)
    draft.name, draft.about = _name(fields), fields.text("about")
    if inputs := fields.table("inputs", "'inputs'"):
        read_inputs(inputs, draft)
    if models := fields.table("models", "'models'"):
        read_models(models, draft)
    if stages := _filled(fields, "stages", "stage"):
        read_stages(stages, draft)
    outputs = _filled(fields, "outputs", "output")
    if outputs and draft.stage_names:
        _outputs(outputs, draft)
    return draft


def _version(fields: Fields) -> None:
    if "wanflow" not in fields.entries:
        return
    version = fields.literal("wanflow")
    if isinstance(version, bool) or version != VERSION or not isinstance(version, int):
        message = f"'wanflow' is the version of the graph format, {VERSION}, not {what_is(version)}"
        fields.tell("bad-version", message, fields.place("wanflow"), f"write wanflow: {VERSION}")


def _name(fields: Fields) -> str:
    name = fields.text("name")
    if isinstance(fields.literal("name"), str) and not GRAPH_NAME.fullmatch(name):
        message = f"graph name {quoted(name)} wants small letters, digits, '.', '_' and '-'"
        fields.tell("bad-name", message, fields.place("name"))
    return name


def _filled(fields: Fields, key: str, one: str) -> Fields | None:
    """Give a section that must have entries."""
    before = fields.problems.count
    section = fields.table(key, f"'{key}'")
    empty = section is None or (not section.entries and fields.problems.count == before)
    if key in fields.entries and empty and fields.problems.count == before:
        fields.tell("empty-section", f"a graph has at least one {one}", fields.place(key))
    return section


def _outputs(fields: Fields, draft: Draft) -> None:
    for name, entry in fields:
        mark = entry.value.mark
        ref = parse_port_ref(entry.value.text) if isinstance(entry.value, Scalar) else None
        if not STAGE_ID.fullmatch(name):
            message = f"output name {quoted(name)} wants small letters, digits and '_'"
            fields.tell("bad-name", message, entry.key.mark)
        elif ref is None:
            message = f"output '{name}' wants STAGE.PORT, is {what_node(entry.value)}"
            fields.tell("wrong-type", message, mark)
        else:
            draft.outputs[name] = OutputSpec(ref, mark)
