"""The JSON Schema that editors use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from wanflow.graph import shipped_graphs
from wanflow.graph.reading.nodes import parse
from wanflow.graph.reading.scalars import to_data
from wanflow.graph.schema import json_schema, schema_text
from wanflow.graph.source import Fault

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema.Draft7Validator(json_schema())

# Faults that a schema can see; references and types of edges it can't.
SEEN = [
    "bad-version", "bad-version-text", "bad-name", "unknown-key", "unknown-key-far", "missing-key",
    "missing-outputs", "empty-outputs", "empty-section", "not-a-mapping", "unknown-op",
    "missing-op",
    "unknown-part", "unknown-config", "unknown-precision", "unknown-expert",
    "expert-part", "lora-part", "bad-config", "unknown-config-field",
    "missing-config-field", "bad-stage-name", "missing-model", "unwanted-model", "unknown-port",
    "missing-port", "missing-in", "port-type-input", "port-type-literal", "unknown-param",
    "unknown-param-none", "wrong-type", "wrong-type-no", "wrong-type-list",
    "out-of-range", "bad-choice", "bad-file-name", "input-type-standard",
    "unknown-type", "wrong-type-output", "bad-output-name", "bad-input-name",
]  # fmt: skip


def data_of(path: Path) -> Any:
    tree = parse(path.read_text())
    assert not isinstance(tree, Fault)
    return to_data(tree)


def test_schema_is_a_schema() -> None:
    """Of draft 7, which every editor knows."""
    jsonschema.Draft7Validator.check_schema(json_schema())


def test_shipped_file_is_the_generated_one() -> None:
    """After a change of ops: `wanflow graph schema > graphs/wanflow.schema.json`."""
    assert (ROOT / "graphs" / "wanflow.schema.json").read_text() == schema_text()


@pytest.mark.parametrize("name", shipped_graphs())
def test_shipped_graphs_are_valid(name: str) -> None:
    """And their first line tells editors where the schema is."""
    path = shipped_graphs()[name]
    VALIDATOR.validate(data_of(path))
    header = "# yaml-language-server: $schema=./wanflow.schema.json"
    assert path.read_text().split("\n")[0] == header


def test_small_graph_is_valid(small: str, tmp_path: Path) -> None:
    """A graph in flow style too."""
    (tmp_path / "g.yaml").write_text(small)
    VALIDATOR.validate(data_of(tmp_path / "g.yaml"))


@pytest.mark.parametrize("name", SEEN)
def test_bad_graph_is_seen_in_the_editor(name: str) -> None:
    """Before anything is run."""
    assert not VALIDATOR.is_valid(data_of(ROOT / "tests/graphs/bad" / f"{name}.yaml"))
