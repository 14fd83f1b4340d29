"""Reading a mapping: its keys checked, its values taken by type, each mistake told where it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import attrs

from wanflow.graph.problems import ProblemList
from wanflow.graph.reading.nodes import Listing, MappingNode, Node, Scalar
from wanflow.graph.reading.scalars import Literal, resolve
from wanflow.graph.source import Mark
from wanflow.graph.wording import listing, nearest, quoted, what_is


@attrs.frozen
class KeyEntry:
    """A key of a mapping and its value."""

    key: Scalar
    value: Node


@attrs.frozen
class Fields:
    """The entries of a mapping. `what` names it in messages: `stage 'denoise'`."""

    what: str
    mark: Mark
    entries: dict[str, KeyEntry]
    problems: ProblemList
    stage: str = ""

    def __iter__(self) -> Iterator[tuple[str, KeyEntry]]:
        return iter(self.entries.items())

    def tell(self, code: str, message: str, mark: Mark, suggestion: str = "") -> None:
        """Add a problem of this mapping."""
        self.problems.add(code, message, mark, stage=self.stage, suggestion=suggestion)

    def check_keys(self, allowed: Collection[str], required: Collection[str] = ()) -> bool:
        """Tell unknown and missing keys; False when there are any."""
        unknown = self.adopt_misspelt(allowed)
        for key in unknown:
            message = f"{self.what} has unknown key {quoted(key.text)}"
            self.problems.add(
                "unknown-key", message, key.mark, stage=self.stage, word=key.text, names=allowed
            )
        missing = [name for name in required if name not in self.entries]
        if missing:
            named = listing([f"'{name}'" for name in missing], "and")
            self.tell("missing-key", f"{self.what} has no {named}", self.mark)
        return not unknown and not missing

    def adopt_misspelt(self, allowed: Collection[str]) -> list[Scalar]:
        """Give the unknown keys, and read each as the missing one it is near to.

        So what stands under `stagse:` is checked too, and `stages` is not told missing as well.
        """
        unknown = [entry for name, entry in self if name not in allowed]
        for entry in unknown[:5]:
            meant = nearest(entry.key.text, allowed)
            if meant and meant not in self.entries:
                self.entries[meant] = entry
        return [entry.key for entry in unknown]

    def literal(self, name: str) -> Literal:
        """Give the value of a scalar; None when the key is not there or empty."""
        entry = self.entries.get(name)
        if entry is None:
            return None
        if isinstance(entry.value, Scalar):
            return resolve(entry.value)
        self._wrong(name, "one value", entry.value)
        return None

    def text(self, name: str, default: str = "") -> str:
        """Give the value of a text; numbers and booleans want quotes."""
        entry, value = self.entries.get(name), self.literal(name)
        if isinstance(value, str):
            return value
        if entry is not None and isinstance(entry.value, Scalar) and value is not None:
            self._wrong(name, "text", entry.value)
        return default

    def place(self, name: str) -> Mark:
        """Give the place of a value, or of the mapping when the key is not there."""
        entry = self.entries.get(name)
        return entry.value.mark if entry is not None else self.mark

    def table(self, name: str, what: str) -> Fields | None:
        """Give a mapping inside this one; None when it is missing, empty or something else."""
        entry = self.entries.get(name)
        if entry is None or is_empty(entry.value):
            return None
        return read_table(entry.value, what, self.problems, entry.key.mark, self.stage)

    def _wrong(self, name: str, wanted: str, node: Node) -> None:
        message = f"{self.what}: '{name}' wants {wanted}, is {what_node(node)}"
        advice = "quote it" if wanted == "text" and isinstance(node, Scalar) else ""
        self.tell("wrong-type", message, node.mark, advice)


def is_empty(node: Node) -> bool:
    """Say whether nothing was written: a key whose entries are all commented out."""
    return isinstance(node, Scalar) and resolve(node) is None


def what_node(node: Node) -> str:
    """Name a node with its kind for a message."""
    if isinstance(node, Scalar):
        return what_is(resolve(node))
    return "a list" if isinstance(node, Listing) else "a mapping"


def read_table(
    node: Node, what: str, problems: ProblemList, mark: Mark, stage: str = ""
) -> Fields | None:
    """Take a node as a mapping with one entry a key."""
    if not isinstance(node, MappingNode):
        message = f"{what} wants a mapping, is {what_node(node)}"
        problems.add("wrong-type", message, node.mark, stage=stage)
        return None
    fields = Fields(what, mark, {}, problems, stage)
    for key, value in node.pairs:
        if not isinstance(key, Scalar):
            problems.add("bad-key", f"{what}: a key wants to be one word", key.mark, stage=stage)
        elif key.text in fields.entries:
            first = fields.entries[key.text].key.mark
            message = f"{what} has key {quoted(key.text)} twice"
            note = f"first at {problems.place(first)}"
            problems.add("duplicate-key", message, key.mark, stage=stage, note=note)
        else:
            fields.entries[key.text] = KeyEntry(key, value)
    return fields
