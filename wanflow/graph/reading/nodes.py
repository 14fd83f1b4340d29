"""YAML text to a small tree of nodes with marks.

Built from the parser's events in one loop, so that the limits hold while reading: composing deep
nesting overflows the C stack, and walking aliases can take for ever.
"""

from __future__ import annotations

from typing import Any

import attrs

from wanflow.graph.source import Fault, Mark

DEEPEST = 32
MOST_NODES = 20_000


@attrs.frozen
class Scalar:
    """A scalar as written; `plain` when it has no quotes, so that `5` and `"5"` differ."""

    text: str
    plain: bool
    mark: Mark


@attrs.define
class Listing:
    """A YAML sequence."""

    mark: Mark
    items: list[Node] = attrs.Factory(list)


@attrs.define
class MappingNode:
    """A YAML mapping, its pairs in the file's order, duplicates still in it."""

    mark: Mark
    pairs: list[tuple[Node, Node]] = attrs.Factory(list)
    waiting_key: Node | None = None


Node = Scalar | Listing | MappingNode


class _RefusedError(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault


@attrs.define
class _Builder:
    """The tree so far: `open` are the collections around the next event."""

    root: Node | None = None
    open: list[Listing | MappingNode] = attrs.Factory(list)
    nodes: int = 0

    def add(self, node: Node) -> None:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            message = f"the file has more than {MOST_NODES} nodes"
            raise _RefusedError(Fault("too-many-nodes", message, node.mark))
        if self.open:
            self._attach(self.open[-1], node)
        elif self.root is not None:
            message = "one YAML document is a file, this is a second"
            raise _RefusedError(Fault("many-documents", message, node.mark, "remove the `---`"))
        else:
            self.root = node
        if not isinstance(node, Scalar):
            self.enter(node)

    def enter(self, node: Listing | MappingNode) -> None:
        if len(self.open) >= DEEPEST:
            message = f"nested deeper than {DEEPEST} levels"
            raise _RefusedError(Fault("too-deep", message, node.mark))
        self.open.append(node)

    def _attach(self, parent: Listing | MappingNode, node: Node) -> None:
        if isinstance(parent, Listing):
            parent.items.append(node)
        elif parent.waiting_key is None:
            if isinstance(node, Scalar) and node.plain and node.text == "<<":
                message = "merge keys (<<) are not allowed"
                raise _RefusedError(Fault("merge-key", message, node.mark, "write the keys out"))
            parent.waiting_key = node
        else:
            parent.pairs.append((parent.waiting_key, node))
            parent.waiting_key = None


def parse(text: str) -> Node | Fault:
    """Parse one YAML document; no tags, anchors, aliases or merge keys."""
    import yaml  # 40 ms that `import wanflow` need not pay

    # PyPI's wheels have libyaml; a source build without it is slower, and reads the same.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=loader):
            _take(builder, event)
    except _RefusedError as refused:
        return refused.fault
    except yaml.YAMLError as error:
        return _syntax_fault(error)
    return builder.root or Fault("empty-file", "the file is empty", Mark(1, 1))


def _take(builder: _Builder, event: Any) -> None:
    """Take one event; PyYAML's events are told apart by class name, which both parsers share."""
    kind = type(event).__name__
    if kind == "AliasEvent":
        message = "aliases (*name) are not allowed"
        raise _RefusedError(Fault("alias", message, _mark(event), "write the value out"))
    if kind in ("ScalarEvent", "SequenceStartEvent", "MappingStartEvent"):
        _refuse_decoration(event)
        builder.add(_node(event, kind))
    elif kind in ("SequenceEndEvent", "MappingEndEvent"):
        builder.open.pop()


def _refuse_decoration(event: Any) -> None:
    if event.anchor is not None:
        message = "anchors (&name) are not allowed"
        raise _RefusedError(Fault("anchor", message, _mark(event), "remove it"))
    if event.tag is not None:
        message = "tags (!name) are not allowed"
        raise _RefusedError(Fault("tag", message, _mark(event), "remove it"))


def _node(event: Any, kind: str) -> Node:
    if kind == "ScalarEvent":
        return Scalar(event.value, event.implicit[0], _mark(event))
    mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
    return Listing(mark) if kind == "SequenceStartEvent" else MappingNode(mark)


def _mark(event: Any) -> Mark:
    start, end = event.start_mark, event.end_mark
    length = end.column - start.column if end.line == start.line else 1
    return Mark(start.line + 1, start.column + 1, max(length, 1))


def _syntax_fault(error: Any) -> Fault:
    """Say a syntax error where it began: an unclosed quote is noticed only at the file's end."""
    place = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", "") or getattr(error, "reason", "can't be read"))
    context = str(getattr(error, "context", "") or "")
    if "quoted" in context and error.context_mark is not None:
        place, problem = error.context_mark, "this quote is not closed"
    mark = Mark(place.line + 1, place.column + 1) if place is not None else Mark(1, 1)
    began = getattr(error, "context_mark", None)
    note = f"it began at line {began.line + 1}, column {began.column + 1}" if began else ""
    if "quote" in problem or (began and began.line + 1 == mark.line):
        note = ""
    said = problem if not context or "quote" in problem else f"{context}, {problem}"
    return Fault("yaml-syntax", f"not valid YAML: {said}", mark, _advice(problem), note)


def _advice(problem: str) -> str:
    if "cannot start any token" in problem:
        return "indent with spaces, and quote text that starts with a sign"
    if "mapping values are not allowed" in problem:
        return "quote text that has ': ' in it, and check the indentation"
    return ""
