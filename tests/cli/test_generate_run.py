"""`wanflow generate`: the forms that people type, run with a tiny twin's folder."""

import json

import pytest

from tests.filmed import film
from tests.generating import LINES, line, words_of
from tests.jobs import TINY
from tests.official import write_official
from tests.pictured import picture
from wanflow.cli import official
from wanflow.cli.official_tasks import TASKS

FEW = "--device cpu --base_seed 3".split()


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


_WIDE = pytest.mark.wide
_SMALL = "--frame_num 1 --size 832*480 --sample_steps"
RUNS = [
    ("fork, image", "official", "--frame_num 1 --size 832*480 --sample_steps 1", _WIDE),
    ("2.1, i2v-14B", "diffusers", f"{_SMALL} 1", _WIDE),
    ("2.1, flf2v-14B", "official", "--frame_num 5 --size 832*480 --sample_steps 1", _WIDE),
    ("2.1, t2i-14B", "official", f"{_SMALL} 1", ()),
    ("2.1, vace-1.3B", "official", f"{_SMALL} 1", _WIDE),
    ("2.2, t2v-A14B", "official", f"{_SMALL} 3", ()),  # two steps of one expert, one of the other
    ("2.2, i2v-A14B", "official", f"{_SMALL} 2", ()),
    ("2.2, i2v-A14B", "diffusers", f"{_SMALL} 2", _WIDE),
    ("2.2, ti2v-5B, text", "official", "--frame_num 1 --sample_steps 1", _WIDE),
    ("2.2, ti2v-5B, image", "official", "--frame_num 1 --sample_steps 1", ()),
]


class TestEachTask:
    @pytest.mark.parametrize(
        ("form", "layout", "more"),
        [pytest.param(*run, marks=marks) for *run, marks in RUNS],
    )
    def test_leaves_what_was_asked_for(
        self, form, layout, more, twins, tmp_path, wanflow_here, monkeypatch
    ):
        """A form with few frames and steps: what the run folder has is where it was typed."""
        monkeypatch.chdir(tmp_path)
        flags = official.parse(words_of(LINES[form], {}))
        folder = getattr(twins, layout)(flags.task)
        paths = [picture(tmp_path / name, seed) for seed, name in enumerate(("b.png", "a.png"))]
        put = {"DIR": str(folder), "PIC": paths[0], "PICS": ",".join(paths)}
        words = [*words_of(LINES[form], put), *more.split(), *FEW]
        code, out, err = wanflow_here("generate", *words)
        assert code == 0, err
        name, kind = ("output.png", "picture") if "t2i" in form else ("output.mp4", "video")
        assert out.startswith(f"wrote {name}\n")
        (run,) = (tmp_path / "runs").iterdir()
        report = json.loads((run / "run.json").read_text())
        assert (tmp_path / name).read_bytes() == (tmp_path / report[kind]).read_bytes()
        assert f"--frame_num {report['frames']}" in more
        assert report["graph"] in TASKS[flags.task].graphs.values()
        assert report["peak_bytes"] <= report["budget_bytes"]


@pytest.mark.wide
class TestVideo:
    def test_has_the_videos_size_and_frames(self, twins, tmp_path, wanflow_here, monkeypatch):
        """With a video `--size` is an area, the frames are 4n+1 of its own; references go first."""
        monkeypatch.chdir(tmp_path)
        put = {name: film(tmp_path / f"{name}.mp4", 6, (70, 90)) for name in ("video", "mask")}
        words = line(
            task="vace-14B", size="832*480", ckpt_dir=twins.official("vace-14B"),
            src_video=put["video"], src_mask=put["mask"], sample_steps=1, offload_model="True",
            src_ref_images=picture(tmp_path / "a.png", 1),
        )  # fmt: skip
        code, out, err = wanflow_here("generate", *words, *FEW, "--json")
        assert code == 0, err
        report = json.loads(out)
        assert (report["frames"], report["inputs"]["size"]) == (5, "64*80")
        assert (tmp_path / "output.mp4").stat().st_size > 0
