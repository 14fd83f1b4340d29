"""A graph changed at random is valid or refused with a GraphError; nothing else ever comes out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wanflow.graph import GraphError, bind, load_text
from wanflow.graph.reading.nodes import parse
from wanflow.graph.reading.scalars import to_data
from wanflow.graph.source import Fault

TINY = (Path(__file__).parents[2] / "graphs" / "t2v-tiny.yaml").read_text()
_tree = parse(TINY)
assert not isinstance(_tree, Fault)
DATA: Any = to_data(_tree)

WRONG = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.just([]), st.just({}), st.just(["a", {"b": 1}]), st.just({"op": "noise"}),
    st.sampled_from(["$nothing", "$mask", "decode.frames", "write.nothing", "nowhere.x", "$"]),
)  # fmt: skip
NAMES = st.one_of(st.text(max_size=12), st.sampled_from(["noise", "in", "op", "<<", "a.b", "$x"]))


def places(data: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """List the path of every key."""
    found = []
    if isinstance(data, dict):
        for key, value in data.items():
            found += [(*path, key), *places(value, (*path, key))]
    return found


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """Delete, duplicate, rename or replace one to three things."""
    data = copy.deepcopy(DATA)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(data)))
        parent = data
        for key in path[:-1]:
            parent = parent[key]
        change = draw(st.sampled_from(["delete", "copy", "rename", "replace", "swap"]))
        value = parent[path[-1]]
        if change in ("delete", "rename"):
            del parent[path[-1]]
        if change in ("copy", "rename"):
            parent[draw(NAMES)] = copy.deepcopy(value)
        if change == "replace":
            parent[path[-1]] = copy.deepcopy(draw(WRONG))
        if change == "swap":
            other = draw(st.sampled_from(places(data)))
            if other[: len(path)] != path:
                taken = data
                for key in other:
                    taken = taken[key]
                parent[path[-1]] = copy.deepcopy(taken)
        if not places(data):
            break
    return data


def load_or_refuse(text: str) -> None:
    """Load and bind; a GraphError must have a place and fit on a screen or two."""
    try:
        graph = load_text(text)
    except GraphError as error:
        check_error(error)
        return
    size = {"size": "64*64"} if "size" in graph.spec.inputs else {}
    bound = bind(graph, size, allow_missing_text=True)
    assert all(bound.turns(stage) >= 1 for stage in bound.stages)


def check_error(error: GraphError) -> None:
    """Every problem has a place in the file and a message that fits on a few lines."""
    assert error.exit_code == 2
    assert error.problems
    assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)
    assert all(len(problem.message) < 600 for problem in error.problems)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_changed_structure(data: Any) -> None:
    """Keys and values changed, the YAML itself well formed."""
    load_or_refuse(yaml.dump(data, sort_keys=False, allow_unicode=True, Dumper=_Plain))


class _Plain(yaml.SafeDumper):
    """Writes no aliases, so that what is tested is the graph and not the ban on them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TINY)), st.integers(0, 40), st.text(max_size=8))
def test_changed_text(start: int, length: int, new: str) -> None:
    """Characters cut out and put in anywhere."""
    load_or_refuse(TINY[:start] + new + TINY[start + length :])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """Text that was never a graph."""
    load_or_refuse(text)
