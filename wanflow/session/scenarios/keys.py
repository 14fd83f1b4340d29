"""What a scenario, or what stands before all of them, asks for: its words, tables, expectations."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from wanflow.graph.reading.nodes import Listing, MappingNode, Node, Scalar
from wanflow.graph.reading.scalars import resolve
from wanflow.graph.reading.tables import Fields, is_empty, what_node
from wanflow.graph.wording import did_you_mean, listing, quoted
from wanflow.session.scenarios.expectations import Expectation
from wanflow.session.scenarios.expected_values import read_expectations

WORDS = ("do", "graph", "vram", "ram", "device", "machine")
FLAGS = ("exact", "prompt_cache")
TABLES = ("inputs", "pins", "settings", "precision", "weights")
KEYS = ("about", *WORDS, *FLAGS, *TABLES, "expect")
WAYS = ("plan", "run")
ALL_MODELS = ""  # the key of what is said of no model in particular


@attrs.frozen
class ScenarioKeys:
    """The keys that are there. A word that is emptied is None: it takes a default back."""

    words: Mapping[str, str | None]
    flags: Mapping[str, bool]
    tables: Mapping[str, Mapping[str, str]]
    expects: Mapping[str, Expectation]

    def over(self, defaults: ScenarioKeys) -> ScenarioKeys:
        """Lay this over *defaults*: words replace theirs, tables and expectations key by key."""
        names = {*defaults.tables, *self.tables}
        return ScenarioKeys(
            {**defaults.words, **self.words},
            {**defaults.flags, **self.flags},
            {n: {**defaults.tables.get(n, {}), **self.tables.get(n, {})} for n in names},
            {**defaults.expects, **self.expects},
        )


NOTHING = ScenarioKeys({}, {}, {}, {})


def read_keys(fields: Fields) -> ScenarioKeys:
    """Read the keys of a mapping; what is wrong in it is told."""
    fields.check_keys(KEYS)
    words = {name: _word(fields, name) for name in ("about", *WORDS) if name in fields.entries}
    way = words.get("do")
    if way is not None and way not in WAYS:
        message = f"{fields.what}: 'do' wants {listing(WAYS)}, is {quoted(way)}"
        fields.tell("bad-choice", message, fields.place("do"), did_you_mean(way, WAYS))
    return ScenarioKeys(
        words,
        {name: flag for name in FLAGS if (flag := _flag(fields, name)) is not None},
        {name: _table(fields, name) for name in TABLES if name in fields.entries},
        read_expectations(fields.table("expect", f"'expect' of {fields.what}")),
    )


def _word(fields: Fields, name: str) -> str | None:
    """A scalar as it is written: `16` and `"16"` are the same."""
    node = fields.entries[name].value
    if isinstance(node, Scalar):
        return None if is_empty(node) else node.text
    message = f"{fields.what}: '{name}' wants one value, is {what_node(node)}"
    fields.tell("wrong-type", message, node.mark)
    return None


def _flag(fields: Fields, name: str) -> bool | None:
    value = fields.literal(name)
    if value is None or isinstance(value, bool):
        return value
    message = f"{fields.what}: '{name}' wants true or false, is {quoted(str(value))}"
    fields.tell("wrong-type", message, fields.place(name))
    return None


def _table(fields: Fields, name: str) -> dict[str, str]:
    """Read `NAME: VALUE` pairs; of a precision and of weights also one value for all models."""
    node = fields.entries[name].value
    if name in ("precision", "weights") and isinstance(node, Scalar) and not is_empty(node):
        return {ALL_MODELS: node.text}
    table = fields.table(name, f"'{name}' of {fields.what}")
    if table is None:
        return {}
    return {key: _value(table, key, entry.value) for key, entry in table}


def _value(fields: Fields, name: str, node: Node) -> str:
    if isinstance(node, Listing) and all(isinstance(item, Scalar) for item in node.items):
        return ",".join(item.text for item in node.items if isinstance(item, Scalar))
    if isinstance(node, Scalar) and not isinstance(resolve(node), bool):
        return node.text
    wrong = what_node(node) if isinstance(node, MappingNode | Listing) else quoted(node.text)
    message = f"{fields.what}: '{name}' wants a text or a number, is {wrong}"
    fields.tell("wrong-type", message, node.mark)
    return ""
