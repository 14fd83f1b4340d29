"""`wanflow models download`: what is said where, and how it ends."""

import json

import pytest
from huggingface_hub import constants

from tests.hub import COMMIT, REPO, point_at, serving
from tests.jobs import TINY


@pytest.fixture
def hub(monkeypatch):
    with serving(TINY) as hub:
        point_at(hub.url, monkeypatch)
        yield hub


class TestDownload:
    def test_text(self, hub, tmp_path, wanflow_here):
        """The pin and the files on stderr; on stdout what came, what it is and what to type."""
        code, out, err = wanflow_here("models", "download", REPO, "--to", tmp_path / "it")
        assert code == 0
        told = err.splitlines()
        assert told[0] == f"{REPO} at main, which is commit {COMMIT}"
        assert told[1].endswith(f"into {tmp_path}/it")
        assert any(line.startswith("vae/diffusion_pytorch_model.safetensors, ") for line in told)
        lines = out.splitlines()
        assert lines[0] == f"{REPO}, commit {COMMIT}"
        assert lines[1].endswith(f"came now, in {tmp_path}/it")
        assert lines[-2:] == [
            "serves: i2v-tiny, t2i-tiny, t2v-tiny, v2v-tiny",
            f"next: wanflow plan i2v-tiny --weights {tmp_path}/it",
        ]

    def test_json(self, hub, tmp_path, wanflow_here):
        """The keys of docs/commands.md, and not a word on stderr."""
        code, out, err = wanflow_here("models", "download", REPO, "--to", tmp_path, "--json")
        assert (code, err) == (0, "")
        said = json.loads(out)
        assert said.keys() == {
            "repo", "revision", "commit", "folder", "bytes", "fetched_bytes", "files", "inspected",
        }  # fmt: skip
        assert sum(hub.sent.values()) == said["bytes"] == said["fetched_bytes"]
        assert {"file", "bytes"} == said["files"][0].keys()
        assert said["inspected"]["whole"] is True

    def test_process(self, hub, tmp_path, wanflow_process, wanflow_here, monkeypatch):
        """HF_ENDPOINT names the hub; a graph then finds the weights by its own name for them."""
        environment = {"HF_ENDPOINT": hub.url, "XDG_DATA_HOME": str(tmp_path)}
        done = wanflow_process("models", "download", REPO, env=environment)
        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
        graph = (TINY.parents[2] / "graphs" / "t2v-tiny.yaml").read_text()
        assert "config: wan-tiny" in graph  # whose weights are bundled; `path` finds these alone
        mine = graph.replace("config: wan-tiny", "path: Wan2.1-Tiny")
        (tmp_path / "mine.yaml").write_text(mine)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        asked = ("-i", "steps=1", "-i", "frames=1", "--device", "cpu", "--out", tmp_path / "run")
        code, _, err = wanflow_here("run", tmp_path / "mine.yaml", "--prompt", "a square", *asked)
        assert code == 0, err
        assert (tmp_path / "run" / "video.mp4").stat().st_size > 0

    def test_found_whole(self, hub, tmp_path, wanflow_here):
        """What came is what `inspect` finds."""
        words = ("models", "download", REPO, "--to", tmp_path / "it", "--json")
        inspected = json.loads(wanflow_here(*words)[1])["inspected"]
        code, out, _ = wanflow_here("models", "inspect", tmp_path / "it", "--json")
        assert (code, json.loads(out)) == (0, inspected)


class TestErrors:
    def failed(self, wanflow_here, *words):
        code, out, err = wanflow_here("models", "download", *words, "--json")
        assert out == ""
        return code, json.loads(err)["error"]["code"]

    def test_unknown_repository(self, hub, wanflow_here):
        """Nobody's repository is a wrong argument."""
        assert self.failed(wanflow_here, "no/body") == (2, "unknown-repository")

    def test_unknown_revision(self, hub, wanflow_here):
        """So is a revision that it has not."""
        words = (REPO, "--revision", "v9")
        assert self.failed(wanflow_here, *words) == (2, "unknown-revision")

    def test_gated(self, hub, wanflow_here):
        """Weights that are not given out are missing weights."""
        hub.refusal = (401, "GatedRepo")
        assert self.failed(wanflow_here, REPO) == (4, "gated")

    def test_offline(self, hub, wanflow_here, monkeypatch):
        """So are those that are not asked for."""
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert self.failed(wanflow_here, REPO) == (4, "offline")


class TestAskedOnly:
    def test_hint(self, wanflow_here, monkeypatch, tmp_path):
        """Where weights are missing the command is named, and nothing is fetched by itself."""
        monkeypatch.chdir(tmp_path)
        code, _, err = wanflow_here("run", "t2v-1.3b", "--prompt", "x", "--device", "cpu")
        assert code == 4
        assert "wanflow models download Wan-AI/Wan2.1-T2V-1.3B" in err
