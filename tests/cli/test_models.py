"""`wanflow models inspect`: what it says, and how it ends."""

import json
import os

import pytest
import torch

from tests.official import DIT, VAE, write_official
from wanflow.graph.configs import known_config
from wanflow.graph.load import load, shipped_graphs

PARTS = ("text_encoder", "transformer", "vae")
ONE = {("wan-tiny", "")}


@pytest.fixture
def official(tmp_path):
    return write_official(tmp_path / "Wan2.1 tiny")


def tiny_graphs():
    """The shipped graphs that the bundled model is all of."""
    models = {name: load(path).spec.models.values() for name, path in shipped_graphs().items()}
    return [n for n, all_ in models.items() if {(m.config, m.expert) for m in all_} == ONE]


def like_tiny(part):
    """The configurations in which shipped graphs have the bundled model's part."""
    specs = [m for path in shipped_graphs().values() for m in load(path).spec.models.values()]
    fields = known_config("wan-tiny", part)
    return list(dict.fromkeys(m.config for m in specs if m.part == part and m.fields == fields))


class TestInspect:
    def test_whole(self, official, wanflow_here, monkeypatch):
        """A line a part, the tokenizer, the graphs, and what to type next."""
        monkeypatch.setenv("COLUMNS", "120")
        code, out, err = wanflow_here("models", "inspect", official)
        assert (code, err) == (0, "")
        text, dit, vae = (", ".join(map(str, like_tiny(part))) for part in PARTS)
        graphs = tiny_graphs()
        assert out.splitlines() == [
            "part          layout    files  tensors      size  dtypes   fits",
            f"text_encoder  official      1       32  2.38 MiB  float32  {text}",
            f"transformer   official      2      231  6.78 MiB  float32  {dit}",
            f"vae           official      1      194  3.53 MiB  float32  {vae}",
            f"tokenizer: {official}/google/umt5-xxl/tokenizer.json",
            f"serves: {', '.join(graphs)}",
            f"next: wanflow plan {graphs[0]} --weights '{official}'",
        ]

    def test_two_experts(self, tiny_model, wanflow_here):
        """A line an expert, with its own files."""
        code, out, _ = wanflow_here("models", "inspect", tiny_model("wan-tiny", experts=True))
        assert code == 0
        rows = [line.split("  ")[0] for line in out.splitlines() if line.startswith("transformer")]
        assert rows == ["transformer high", "transformer low"]
        assert "serves: t2v-tiny" not in out

    def test_json(self, official, wanflow_here):
        """The keys of docs/commands.md."""
        code, out, _ = wanflow_here("models", "inspect", official, "--json")
        found = json.loads(out)
        assert code == 0
        assert found.keys() == {"path", "whole", "parts", "tokenizer", "graphs"}
        assert found["parts"][1].keys() == {
            "part", "place", "layout", "files", "tensors", "bytes", "dtypes", "fits", "nearest",
            "missing", "misshapen", "over", "problem", "prefix", "notes", "expert", "format",
            "packed",
        }  # fmt: skip
        assert [file["file"] for file in found["parts"][1]["files"]] == DIT
        assert {"graph": "t2v-tiny", "serves": True, "lacks": []} in found["graphs"]

    def test_faults(self, official, wanflow_here):
        """What is missing, misshapen, unused and damaged is named, and the exit code is 4."""
        state = torch.load(official / VAE)
        del state["conv1.bias"]
        torch.save(state | {"conv2.bias": torch.ones(3), "x\x1b[1m": torch.ones(1)}, official / VAE)
        os.truncate(official / DIT[0], 100_000)
        code, out, _ = wanflow_here("models", "inspect", official)
        assert code == 4
        assert "\x1b" not in out
        assert "vae: of wan-tiny lacks quant_conv.bias\n" in out
        assert "vae: of wan-tiny has another shape: conv2.bias [3], wanted [16]\n" in out
        assert r"vae: not used: x\x1b[1m" in out
        assert "transformer: " in out
        assert "serves: no shipped graph by itself" in out

    def test_nothing_there(self, tmp_path, wanflow_here):
        """A folder without weights is an error like any other."""
        code, out, err = wanflow_here("models", "inspect", tmp_path, "--json")
        assert (code, out) == (4, "")
        assert json.loads(err)["error"]["code"] == "missing-weights"
