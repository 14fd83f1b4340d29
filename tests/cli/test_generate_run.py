"""`wanflow generate`: the forms that people type, run with a tiny twin's folder."""

import json

import pytest

from tests.generating import LINES, line, words_of
from tests.jobs import TINY
from tests.official import write_official
from tests.pictured import TWINS, make_folder, picture

FEW = "--sample_steps 1 --device cpu --base_seed 3".split()


class TestRealRun:
    @pytest.mark.parametrize("layout", ["diffusers", "official"])
    def test_leaves_the_video(self, layout, tmp_path, wanflow_here, monkeypatch):
        """The quick start with few frames and steps: `output.mp4` where the command was typed."""
        monkeypatch.chdir(tmp_path)
        folder = TINY if layout == "diffusers" else write_official(tmp_path / "Wan2.1-T2V-1.3B")
        words = line(
            ckpt_dir=folder, frame_num=1, sample_steps=1, precision="fp16", sample_solver="dpm++",
            profile_memory="true", log_path="logs",
        )  # fmt: skip
        code, out, err = wanflow_here("generate", *words)
        assert code == 0, err
        said = out.splitlines()
        assert said[0] == "wrote output.mp4"
        (run,) = (tmp_path / "runs").iterdir()
        assert (tmp_path / "output.mp4").read_bytes() == (run / "video.mp4").read_bytes()
        assert f"run folder: {run.relative_to(tmp_path)}" in said
        report = json.loads((run / "run.json").read_text())
        events = json.loads((tmp_path / "logs" / "memory_events.json").read_text())
        assert events["measured_peak_bytes"] == report["peak_bytes"]
        assert {"denoise", "decode"} <= {each.get("stage") for each in events["events"]}
        assert f"seed {report['seed']}, drawn" in err
        assert not list(tmp_path.glob(".*.part"))


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Folders of both layouts of every twin."""
    base = tmp_path_factory.mktemp("twins")
    made = {}
    for name in ("i2v", "flf2v"):
        made[name, "diffusers"] = make_folder(TWINS[name], base / name)
        official = base / "official" / f"Wan2.1-{name}-480P"
        made[name, "official"] = write_official(official, made[name, "diffusers"])
    return made


class TestPictures:
    @pytest.mark.parametrize(
        ("form", "layout", "more"),
        [
            ("fork, image", "official", "--frame_num 1"),
            pytest.param(
                "README, image", "diffusers", "--frame_num 1 --size 832*480",
                marks=pytest.mark.wide,
            ),
            pytest.param(
                "README, two frames", "official", "--frame_num 5 --size 832*480",
                marks=pytest.mark.wide,
            ),
        ],
    )  # fmt: skip
    def test_leaves_the_video(self, form, layout, more, twins, tmp_path, wanflow_here, monkeypatch):
        """Each form that starts from pictures, with few frames and one step, in either layout."""
        monkeypatch.chdir(tmp_path)
        folder = twins["flf2v" if "flf2v" in LINES[form] else "i2v", layout]
        put = {"DIR": str(folder), "PIC": picture(tmp_path / "picture.png", 1)}
        words = [*words_of(LINES[form], put), *more.split(), *FEW]
        code, out, err = wanflow_here("generate", *words)
        assert code == 0, err
        assert out.startswith("wrote output.mp4\n")
        (run,) = (tmp_path / "runs").iterdir()
        assert (tmp_path / "output.mp4").read_bytes() == (run / "video.mp4").read_bytes()
        report = json.loads((run / "run.json").read_text())
        assert f"--frame_num {report['frames']}" in more
        assert report["graph"] == ("flf2v-14b" if "flf2v" in LINES[form] else "i2v-14b-480p")
        assert report["peak_bytes"] <= report["budget_bytes"]
