"""Video to video is diffusers' own, bit for bit; size and length are the video's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from diffusers import WanVideoToVideoPipeline

from tests.filmed import film
from tests.jobs import TINY, budgets, run_watched
from tests.pipelines import parts_of
from tests.resuming import PLAIN, cut_short, frames_of, resumed_frames
from tests.test_equality import SAMPLERS, SEED, STEPS
from wanflow.errors import InputError
from wanflow.files.videos import open_video
from wanflow.graph import BoundGraph, Size
from wanflow.session import Request, plan
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare

PROMPT = "a red circle moves right on a blue background"
INPUTS = {"prompt": PROMPT, "steps": STEPS, "seed": SEED, "guidance": 5.0}


def request(path: str, sampler: str = "unipc", **inputs: Any) -> Request:
    """The job as wanflow takes it; the settings of a stage come with the request."""
    vram = inputs.pop("vram", "auto")
    return Request(
        "v2v-tiny", {**INPUTS, "video": path, **inputs}, device="cpu", exact=True, vram=vram,
        settings=(f"denoise.sampler={sampler}",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pipeline() -> WanVideoToVideoPipeline:
    """Diffusers' pipeline from the same files, its parts loaded by their own classes."""
    made = WanVideoToVideoPipeline(
        **parts_of(TINY),
        scheduler=SAMPLERS["unipc"](),
    )
    made.set_progress_bar_config(disable=True)
    return made


def expected(
    pipeline: WanVideoToVideoPipeline, path: str, strength: float, sampler: str
) -> torch.Tensor:
    """The pipeline's frames `[n, 3, H, W]`."""
    pipeline.scheduler = SAMPLERS[sampler]()
    made = pipeline(
        video=list(open_video(Path(path)).frames()), prompt=PROMPT, width=64, height=48,
        num_inference_steps=STEPS, guidance_scale=5.0, strength=strength,
        generator=torch.Generator("cpu").manual_seed(SEED), output_type="pt",
    )  # fmt: skip
    return torch.as_tensor(made.frames[0])


class TestFrames:
    """From noise alone to hardly any."""

    @pytest.mark.parametrize(
        ("strength", "sampler"),
        [
            (0.2, "unipc"),
            (0.8, "unipc"),
            (1.0, "unipc"),
            pytest.param(0.5, "euler", marks=pytest.mark.wide),
            pytest.param(0.7, "dpm++", marks=pytest.mark.wide),
        ],
    )
    def test_are_the_pipelines(
        self, pipeline: WanVideoToVideoPipeline, strength: float, sampler: str, tmp_path: Path
    ) -> None:
        """With everything resident and at the minimum."""
        path = film(tmp_path / "in.mp4", 9)
        wanted = expected(pipeline, path, strength, sampler)
        most, _, least = budgets(request(path, sampler, strength=strength))
        for budget in (most, least):
            asked = request(path, sampler, strength=strength, vram=f"{budget}B")
            made = run_watched(asked, tmp_path / "run")
            assert made.report["frames"] == 9
            assert torch.equal(made.frames, wanted), budget

    def test_resumed(self, tmp_path: Path) -> None:
        """A run that was cut short goes on to the same frames: the source is not read again."""
        asked = request(film(tmp_path / "in.mp4", 9), strength=0.5)
        asked = attrs.evolve(asked, pins=PLAIN)
        wanted = frames_of(asked, tmp_path / "whole")
        assert torch.equal(resumed_frames(cut_short(asked, tmp_path / "cut", 3)), wanted)

    def test_no_step(self, tmp_path: Path) -> None:
        """Strength that leaves no step is told with the least that leaves one."""
        path = film(tmp_path / "in.mp4", 5)
        with pytest.raises(InputError, match=r"strength of 0\.1 of 6 steps is no step") as caught:
            prepare(asked := request(path, strength=0.1), find_place(asked), to_run=True)
        assert caught.value.hint == "strength 0.167 or more, or more steps"


class TestShape:
    """What the video says, and what someone asks for beside it."""

    @pytest.mark.parametrize(
        ("video", "size", "frames"),
        [
            ({"frames": 20, "size": (96, 54), "rate": 24}, "80*48", 17),
            ({"frames": 40, "size": (97, 171), "rate": 30}, "48*80", 17),
            ({"frames": 40, "size": (96, 54), "turn": 90}, "48*80", 17),
            ({"frames": 400, "size": (32, 32)}, "32*32", 77),
            ({"frames": 30, "size": (64, 48), "lasts": (10, 90, 200)}, "64*48", 21),
            ({"frames": 1}, "64*48", 1),
            ({"frames": 2}, "64*48", 1),
        ],
        ids=str,
    )
    def test_is_the_videos(
        self, tmp_path: Path, video: dict[str, Any], size: str, frames: int
    ) -> None:
        """Lying and standing, turned, odd, short, small, of uneven time: 16 tokens by five."""
        inputs = bound(film(tmp_path / "in.mkv", **video)).inputs
        assert (str(inputs["size"]), inputs["frames"]) == (size, frames)

    def test_is_said(self, tmp_path: Path) -> None:
        """A plan tells what is used of a video, unless that is all of it."""
        notes = [
            plan(request(film(tmp_path / "in.mp4", frames, size))).report["notes"]
            for frames, size in ((30, (96, 54)), (9, (64, 48)))
        ]
        assert notes == [["video: 17 of its 30 frames of 96*54 are used, at 80*48"], []]

    def test_without_a_video(self) -> None:
        """A plan takes both as they stand."""
        asked = Request("v2v-1.3b", {}, machine="rtx4090", ram="64GiB")
        inputs = prepare(asked, find_place(asked), to_run=False).graph.inputs
        assert (inputs["size"], inputs["frames"]) == (Size(832, 480), 81)

    def test_what_it_overrides(self, tmp_path: Path) -> None:
        """Another size or count is an error that says what the video leads to."""
        path = film(tmp_path / "in.mp4", 30, (96, 54))
        with pytest.raises(InputError, match=r"'frames' is 33.*30 frames of 96\*54\) it is 29"):
            bound(path, frames=33, size="32*32")
        with pytest.raises(InputError, match=r"'size' is 64\*64.*it is 80\*48") as caught:
            bound(path, size="64*64")
        assert caught.value.hint == "leave it out, or give 80*48"

    def test_what_it_does_not(self, tmp_path: Path) -> None:
        """Fewer frames in a smaller area, in the video's shape."""
        inputs = bound(film(tmp_path / "in.mp4", 30, (96, 54)), frames=5, size="48*32").inputs
        assert (inputs["size"], inputs["frames"]) == (Size(48, 32), 5)

    def test_too_small(self, tmp_path: Path) -> None:
        """No token fits."""
        with pytest.raises(InputError, match=r"is 64\*12, at least 16\*16 is wanted"):
            bound(film(tmp_path / "in.mp4", 5, (64, 12)))


def bound(path: str, **inputs: Any) -> BoundGraph:
    """The graph with its values."""
    asked = request(path, **inputs)
    return prepare(asked, find_place(asked), to_run=False).graph
