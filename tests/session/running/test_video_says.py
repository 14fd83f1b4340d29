"""What a finished video says of its run, and what it keeps to itself."""

import json
from pathlib import Path

import attrs
import av
import pytest
from PIL import Image

from tests.resuming import INPUTS, SMALL, cut_short
from wanflow.session import Request, resume, run

LONG = "circle " * 600


def comment(folder):
    """The comment of a run's video, read."""
    with av.open(folder / "video.mp4") as video:
        said = video.metadata.get("comment")
    return None if said is None else json.loads(said)


@pytest.fixture
def picture(tmp_path):
    """A picture in a folder with a telling name."""
    path = tmp_path / "home of somebody" / "a.png"
    path.parent.mkdir()
    Image.new("RGB", (32, 32), (200, 0, 0)).save(path)
    return path


class TestComment:
    def test_names_of_files_only(self, picture, tmp_path, monkeypatch):
        """However a picture was named; `run.json` keeps the path, and what is written has none."""
        monkeypatch.chdir(picture.parent)
        for number, name in enumerate([str(picture), "a.png"]):
            inputs = {**INPUTS, "frames": 1, "steps": 1, "image": name, "prompt": "x"}
            done = run(
                Request("i2v-tiny", inputs, "64MiB", device="cpu"), out=tmp_path / f"r{number}"
            )
            out = Path(str(done["out"]))
            assert comment(out)["inputs"] == {**done["inputs"], "image": "a.png"}
            assert done["inputs"]["image"] == str(picture)
            assert b"somebody" not in (out / "video.mp4").read_bytes()

    def test_a_picture_that_the_graph_names(self, picture, tmp_path):
        """A default is an input as any other."""
        text = (Path(__file__).parents[3] / "graphs" / "i2v-tiny.yaml").read_text()
        declared = "image: {type: image"
        assert declared in text
        graph = tmp_path / "mine.yaml"
        graph.write_text(text.replace(declared, f"{declared}, default: '{picture}'"))
        inputs = {**INPUTS, "frames": 1, "steps": 1, "prompt": "x"}
        run(Request(str(graph), inputs, "64MiB", device="cpu"), out=tmp_path / "r")
        assert comment(tmp_path / "r")["inputs"]["image"] == "a.png"
        assert b"somebody" not in (tmp_path / "r" / "video.mp4").read_bytes()


class TestNoMetadata:
    def test_no_comment_whatever_became_of_the_run(self, tmp_path):
        """The same file from a run that went through and from one that was resumed."""
        silent = attrs.evolve(SMALL, metadata=False)
        run(silent, out=tmp_path / "whole")
        resume(cut_short(silent, tmp_path / "cut"))
        assert comment(tmp_path / "whole") is None
        whole = (tmp_path / "whole" / "video.mp4").read_bytes()
        assert whole == (tmp_path / "cut" / "video.mp4").read_bytes()
        assert b"t2v-tiny" not in whole
        report = json.loads((tmp_path / "cut" / "run.json").read_text())
        assert report["inputs"]["steps"] == INPUTS["steps"]


def test_cut_prompt_is_in_the_report(tmp_path):
    """In `run.json` as in the plan."""
    inputs = {**INPUTS, "frames": 1, "steps": 1, "prompt": LONG}
    done = run(attrs.evolve(SMALL, inputs=inputs), out=tmp_path / "r")
    (cut,) = json.loads((tmp_path / "r" / "run.json").read_text())["cut_prompts"]
    assert (cut["tokens"], cut["max_tokens"], cut["cut_at"]) == (601, 512, 511 * len("circle "))
    assert done["cut_prompts"] == [cut]
