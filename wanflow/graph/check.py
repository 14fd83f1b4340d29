"""From the text of a graph file to a checked graph, or to all of its problems at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from wanflow.graph.checks.edges import Edge, check_outputs, check_widths, find_edges
from wanflow.graph.checks.order import find_order
from wanflow.graph.checks.uses import check_files, check_unused, check_values, video_rules
from wanflow.graph.problems import ProblemList
from wanflow.graph.reading.draft import Draft
from wanflow.graph.reading.file import read_file
from wanflow.graph.reading.tree import read_tree
from wanflow.graph.rules import VideoRules
from wanflow.graph.source import Source
from wanflow.graph.spec import GraphSpec
from wanflow.graph.wording import MOST_LISTED, listing

if TYPE_CHECKING:
    import networkx as nx


@attrs.frozen
class CheckedGraph:
    """A graph without problems.

    `order` is a topological order, by name among stages that are ready together. `rules` are None
    when a model's configuration is not in the file.
    """

    spec: GraphSpec
    source: Source
    order: tuple[str, ...]
    edges: tuple[Edge, ...]
    rules: VideoRules | None

    def digraph(self) -> nx.MultiDiGraph[str]:
        """Give the stages as a networkx graph; each edge has `source`, `target` and `type`."""
        import networkx as nx  # half a second, only for those who ask for it

        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(name=self.spec.name)
        for name in self.order:
            graph.add_node(name, op=self.spec.stages[name].op.name)
        for edge in self.edges:
            graph.add_edge(
                edge.source.stage, edge.target.stage,
                source=edge.source.port, target=edge.target.port, type=str(edge.type),
            )  # fmt: skip
        return graph


def check(source: Source) -> CheckedGraph:
    """Read and check a graph; raise `GraphError` with every problem of it."""
    problems = ProblemList(source)
    draft = read_file(read_tree(problems, "see `wanflow graph schema`"), problems)
    edges = find_edges(draft)
    check_outputs(draft)
    order = _order(draft, edges)
    rules = video_rules(draft)
    check_values(draft, rules)
    check_files(draft)
    if not problems.count:
        check_widths(draft, edges)
    # What nothing uses is told only when all else is right: a typo elsewhere explains it.
    if not problems.count:
        check_unused(draft, edges)
    problems.raise_any()
    return CheckedGraph(draft.spec(), source, order, tuple(edges), rules)


def _order(draft: Draft, edges: list[Edge]) -> tuple[str, ...]:
    needs: dict[str, set[str]] = {name: set() for name in draft.stages}
    for edge in edges:
        needs[edge.target.stage].add(edge.source.stage)
    order = find_order(needs)
    if order.cycle:
        marks = [draft.stages[name].mark for name in order.cycle[:-1]]
        lines = listing([str(mark.line) for mark in marks], "and")
        shown = order.cycle if len(order.cycle) <= MOST_LISTED else (*order.cycle[:9], "…")
        message = f"stages wait for each other: {' -> '.join(shown)} (lines {lines})"
        draft.problems.add("cycle", message, marks[0], stage=order.cycle[0])
    return order.stages
