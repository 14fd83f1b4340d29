"""One picture: diffusers' frame, bit for bit, as a PNG file that a run says the place of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from PIL import Image

from tests.jobs import TINY, budgets, run_watched
from tests.pipelines import parts_of
from tests.resuming import PLAIN, cut_short
from tests.test_equality import SAMPLERS, SEED, STEPS
from wanflow.errors import InputError
from wanflow.session import Request, plan, resume
from wanflow.stages.frames import to_bytes

PROMPT = "a red circle on a blue background"
SMALL = Request("t2i-tiny", {"steps": 3, "size": "32*32"}, device="cpu", vram="64MiB", pins=PLAIN)

ALSO_OFFICIAL = ("1280*720", "720*1280", "832*480", "480*832")


def expected() -> torch.Tensor:
    """The frame `[1, 3, H, W]` of diffusers' pipeline, its parts loaded by their own classes."""
    pipeline = WanPipeline(
        **parts_of(TINY),
        scheduler=SAMPLERS["unipc"](),
    )
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        prompt=PROMPT, width=80, height=48, num_frames=1, num_inference_steps=STEPS,
        guidance_scale=5.0, generator=torch.Generator("cpu").manual_seed(SEED), output_type="pt",
    )  # fmt: skip
    return torch.as_tensor(made.frames[0])


class TestPicture:
    """What comes of a run."""

    def test_is_the_pipelines(self, tmp_path: Path) -> None:
        """With everything resident and at the minimum; the file has its pixels."""
        inputs: dict[str, Any] = {"prompt": PROMPT, "size": "80*48", "steps": STEPS, "seed": SEED}
        asked = Request("t2i-tiny", {**inputs, "guidance": 5.0}, device="cpu", exact=True)
        wanted = expected()
        most, _, least = budgets(asked)
        for budget in (most, least):
            made = run_watched(attrs.evolve(asked, vram=f"{budget}B"), tmp_path / "run")
            assert torch.equal(made.frames, wanted), budget
        assert (made.report["frames"], "video" in made.report) == (1, False)
        with Image.open(str(made.report["picture"])) as picture:
            assert np.array_equal(np.asarray(picture), to_bytes(wanted, picture=True)[0].numpy())
            assert json.loads(picture.info["Comment"])["inputs"]["prompt"] == PROMPT

    def test_resumed(self, tmp_path: Path) -> None:
        """A run that was cut short goes on to the same file."""
        whole = run_watched(SMALL, tmp_path / "whole").report
        again = resume(cut_short(SMALL, tmp_path / "cut"))
        assert again["resumed"]
        files = [Path(str(report["picture"])).read_bytes() for report in (whole, again)]
        assert files[0] == files[1]

    @pytest.mark.parametrize(
        "size",
        [
            "1024*1024",
            *(pytest.param(size, marks=pytest.mark.wide) for size in ALSO_OFFICIAL),
        ],
    )
    def test_official_sizes(self, size: str) -> None:
        """All are planned."""
        asked = Request("t2i-14b", {"prompt": "x", "size": size}, machine="rtx4090", ram="64GiB")
        assert plan(asked).report["feasible"]


class TestRefused:
    """A video is no picture."""

    def test_many_frames(self, tmp_path: Path) -> None:
        """Told before anything runs, with what can be done."""
        text = (
            Path("graphs/t2v-tiny.yaml").read_text().replace("op: write_video", "op: write_picture")
        )
        graph = tmp_path / "graph.yaml"
        graph.write_text(text.replace("    params: {fps: $fps}\n", ""))
        with pytest.raises(InputError, match="writes one picture, and there are 17 frames") as told:
            plan(Request(str(graph), device="cpu"))
        assert (told.value.code, told.value.exit_code) == ("many-frames", 2)
        assert plan(Request(str(graph), {"frames": 1}, device="cpu")).report["feasible"]

    def test_its_name(self) -> None:
        """It ends in .png."""
        asked = Request("t2i-tiny", device="cpu", settings=("write.name=a.mp4",))
        with pytest.raises(InputError, match=r"wants a name that ends in \.png, is 'a\.mp4'"):
            plan(asked)
