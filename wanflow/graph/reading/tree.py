"""The text of a file of ours to its tree of nodes, or its one problem: graphs and scenarios."""

from __future__ import annotations

from wanflow.graph.problems import ProblemList
from wanflow.graph.reading.nodes import Node, parse
from wanflow.graph.source import Fault, find_fault


def read_tree(problems: ProblemList, grammar: str) -> Node:
    """Parse what *problems* are of; GraphError for what can't be read at all.

    *grammar* says where to read what belongs into an empty file.
    """
    text = problems.source.text
    tree = find_fault(text, grammar) or parse(text)
    if isinstance(tree, Fault):
        problems.refuse(tree)
    return tree
