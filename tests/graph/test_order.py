"""The running order and the DAG."""

from __future__ import annotations

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanflow.graph.checks.order import find_order

NAMES = [f"s{n}" for n in range(9)]


@given(st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=20))
def test_order_is_networkx_lexicographical_one(pairs: set[tuple[str, str]]) -> None:
    """The standard library's sorter gives what networkx would, without its half second."""
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(NAMES)
    graph.add_edges_from((min(pair), max(pair)) for pair in pairs if pair[0] != pair[1])
    needs = {name: set(graph.predecessors(name)) for name in NAMES}
    expected = list(networkx.lexicographical_topological_sort(graph))
    assert list(find_order(needs).stages) == expected


@given(st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=20))
def test_cycle_is_a_cycle_of_the_graph(pairs: set[tuple[str, str]]) -> None:
    """Found when there is one, and then each step of it is an edge."""
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(NAMES)
    graph.add_edges_from(pairs)
    found = find_order({name: set(graph.predecessors(name)) for name in NAMES})
    assert bool(found.cycle) is not networkx.is_directed_acyclic_graph(graph)
    assert all(graph.has_edge(a, b) for a, b in zip(found.cycle, found.cycle[1:], strict=False))
    assert not found.cycle or found.cycle[0] == found.cycle[-1] == min(found.cycle)


def test_order_does_not_depend_on_the_files_order(edited, small: str) -> None:
    """Stages written backwards run alike."""
    start, end = small.index("stages:\n") + 8, small.index("outputs:")
    body = small[start:end]
    blocks = [f"  {block}" for block in body.replace("\n    ", "\0").split("\n  ")]
    blocks[0] = blocks[0][2:]
    turned = "\n".join(block.rstrip("\n") for block in reversed(blocks)).replace("\0", "\n    ")
    assert edited((body, turned + "\n")).order == edited().order


def test_digraph_has_stages_and_edges(edited) -> None:
    """For those who want to walk it with networkx."""
    graph = edited().digraph()
    assert list(graph.nodes) == ["encode", "noise", "denoise", "decode", "write"]
    assert graph.nodes["decode"]["op"] == "decode_frames"
    edge = graph.get_edge_data("encode", "denoise")[0]
    assert edge == {"source": "text", "target": "text", "type": "text_embedding"}


def test_two_edges_between_two_stages_are_both_there(edited) -> None:
    """One latents value feeds two decoders, each a writer."""
    graph = edited(
        ("  write:", "  b: {op: write_frames, in: {frames: decode.frames}}\n  write:"),
        ("video: write.file", "video: write.file, pictures: b.folder"),
    )
    assert graph.order == ("encode", "noise", "denoise", "decode", "b", "write")
    assert graph.digraph().number_of_edges() == 5


@pytest.mark.parametrize("length", [3, 30])
def test_long_cycle_is_cut_in_the_message(refused, length: int) -> None:
    """Ten names say enough."""
    row = "  c{}: {{op: denoise, model: dit, in: {{text: encode.text, latents: c{}.latents}}}}\n"
    stages = "".join(row.format(n, (n + 1) % length) for n in range(length))
    error = refused(("  decode:", stages + "  decode:"))
    assert error.code == "cycle"
    assert error.message.split("\n")[0].count("->") == min(length, 9)
