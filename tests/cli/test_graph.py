"""`wanflow graph`: check, show, schema."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

GRAPH = """\
wanflow: 1
name: small
about: One stage
inputs:
  size: {type: size, default: 32*32}
  frames: {type: int, default: 5}
  seed: {type: int, default: 1}
stages:
  noise: {op: noise, in: {size: $size, frames: $frames, seed: $seed}}
outputs: {latents: noise.latents}
"""


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(GRAPH)
    return path


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(GRAPH.replace("op: noise", "op: noize"))
    return path


class TestCheck:
    def test_says_ok_with_the_number_of_stages(self, good, wanflow_here):
        """One line a file."""
        code, out, err = wanflow_here("graph", "check", good)
        assert (code, err) == (0, "")
        assert out == f"ok: {good} (1 stage)\n"

    def test_tells_the_problems_of_every_file(self, good, bad, wanflow_here):
        """A wrong file does not hide the next; data and errors keep apart."""
        code, out, err = wanflow_here("graph", "check", bad, good, "absent.yaml")
        assert code == 2
        assert out == f"ok: {good} (1 stage)\n"
        assert f"{bad}:9:" in err
        assert "noise" in err
        assert "absent.yaml" in err
        assert err.endswith("2 graphs are wrong\n")
        assert "error: error" not in err

    def test_json_lists_the_files_and_their_problems(self, good, bad, wanflow_here):
        """A program reads stdout; the error object still is on stderr."""
        code, out, err = wanflow_here("graph", "check", good, bad, "--json")
        assert code == 2
        found = json.loads(out)
        assert found["ok"] is False
        assert [g["ok"] for g in found["graphs"]] == [True, False]
        assert found["graphs"][1]["problems"][0]["line"] == 9
        assert json.loads(err)["error"]["line"] == 9


class TestShow:
    def test_draws_text_mermaid_and_json(self, good, wanflow_here):
        """The same graph, three ways."""
        assert "noise" in wanflow_here("graph", "show", good)[1]
        assert wanflow_here("graph", "show", good, "--mermaid")[1].startswith("flowchart")
        found = json.loads(wanflow_here("graph", "show", good, "--json")[1])
        assert [s["stage"] for s in found["stages"]] == ["noise"]

    def test_two_forms_at_once_exit_2(self, good, wanflow_here):
        """One output, one form."""
        assert wanflow_here("graph", "show", good, "--json", "--mermaid")[0] == 2


def test_schema_is_a_json_schema(wanflow_here):
    """Editors read draft-07; what is printed is the file that is shipped."""
    code, out, _ = wanflow_here("graph", "schema")
    assert code == 0
    assert out == (ROOT / "graphs" / "wanflow.schema.json").read_text()
    assert "draft-07" in json.loads(out)["$schema"]
