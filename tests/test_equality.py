"""The picture is diffusers' own, bit for bit, at every budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
)

from tests.jobs import TINY, budgets, run_watched
from tests.pipelines import parts_of
from wanflow.session import Request

WORDS = "a red circle moves right on a blue background while a small green triangle grows".split()
NEGATIVE = "a blurry picture of nothing"
MORE_PROMPTS = [(3, ""), (3, NEGATIVE), (17, ""), (80, NEGATIVE)]
SHIFT, SEED, STEPS = 3.0, 11, 6

SAMPLERS = {
    "unipc": lambda: UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT
    ),
    "dpm++": lambda: DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT
    ),
    "euler": lambda: FlowMatchEulerDiscreteScheduler(shift=SHIFT),
}


@attrs.frozen
class Job:
    """What both sides are asked for."""

    prompt: str
    negative: str = ""
    guidance: float = 5.0
    steps: int = STEPS
    sampler: str = "unipc"
    width: int = 64
    height: int = 64
    frames: int = 17

    def request(self, **options: Any) -> Request:
        """The job as wanflow takes it."""
        inputs: dict[str, str | int | float] = {
            "prompt": self.prompt,
            "guidance": self.guidance,
            "steps": self.steps,
            "seed": SEED,
            "size": f"{self.width}*{self.height}",
            "frames": self.frames,
        }
        if self.negative:
            inputs["negative_prompt"] = self.negative
        settings = (f"denoise.sampler={self.sampler}",)
        return Request("t2v-tiny", inputs, device="cpu", exact=True, settings=settings, **options)


def prompt_of(tokens: int) -> str:
    """A prompt of about so many tokens: the tiny vocabulary has a token for each of its words."""
    return " ".join((WORDS * 8)[: tokens - 1])


@pytest.fixture(scope="module")
def pipeline() -> WanPipeline:
    """Diffusers' pipeline from the same files, its parts loaded by their own classes."""
    return WanPipeline(
        **parts_of(TINY),
        scheduler=SAMPLERS["unipc"](),
    )


def expected(pipeline: WanPipeline, job: Job) -> torch.Tensor:
    """The pipeline's frames `[n, 3, H, W]`."""
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = SAMPLERS[job.sampler]()
    made = pipeline(
        prompt=job.prompt,
        negative_prompt=job.negative or None,
        width=job.width,
        height=job.height,
        num_frames=job.frames,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        generator=torch.Generator("cpu").manual_seed(SEED),
        output_type="pt",
    )
    return torch.as_tensor(made.frames[0])


class TestBudgets:
    """Three budgets, from everything resident to the minimum."""

    @pytest.mark.parametrize(
        ("tokens", "negative"),
        [
            (80, ""),
            (17, NEGATIVE),
            *(pytest.param(*more, marks=pytest.mark.wide) for more in MORE_PROMPTS),
        ],
    )
    def test_frames_are_the_pipelines(
        self, pipeline: WanPipeline, tokens: int, negative: str, tmp_path: Path
    ) -> None:
        """At the resident peak, halfway and at the minimum the frames are the same bits."""
        job = Job(prompt_of(tokens), negative)
        wanted = expected(pipeline, job)
        for budget in budgets(job.request()):
            made = run_watched(job.request(vram=f"{budget}B"), tmp_path / "run")
            assert torch.equal(made.frames, wanted), budget

    @pytest.mark.parametrize(
        "pins",
        [
            ("encode.weights=stream", "denoise.weights=stream", "decode.weights=stream"),
            ("denoise.cfg=paired", "denoise.weights=stream"),
            ("denoise.split=parts", "denoise.weights=stream", "denoise.cfg=serial"),
            ("denoise.split=parts", "denoise.cfg=paired"),
        ],
    )
    def test_streaming_every_segment_changes_nothing(
        self, pipeline: WanPipeline, pins: tuple[str, ...], tmp_path: Path
    ) -> None:
        """Weights that are read anew at each use give the same bits, in either order of passes."""
        job = Job(prompt_of(9))
        made = run_watched(job.request(pins=pins), tmp_path / "run")
        assert torch.equal(made.frames, expected(pipeline, job))


class TestForms:
    """Samplers, guidance, sizes and lengths."""

    @pytest.mark.parametrize(
        "job",
        [
            Job(prompt_of(7), sampler="dpm++"),
            Job(prompt_of(7), sampler="euler"),
            Job(prompt_of(7), guidance=1.0),
            Job(prompt_of(7), steps=1),
            Job(prompt_of(7), steps=2, frames=1),
            Job(prompt_of(7), steps=2, width=96, height=48, frames=5),
            Job("", steps=2, frames=1),
            Job("一个红色的圆形在蓝色的背景上向右移动 🎈 &amp; more", steps=2, frames=5),
            Job(" ".join(WORDS * 200), steps=2, frames=1),
        ],
        ids=lambda job: f"{job.sampler}-g{job.guidance}-s{job.steps}-{job.width}x{job.height}",
    )
    def test_frames_are_the_pipelines(
        self, pipeline: WanPipeline, job: Job, tmp_path: Path
    ) -> None:
        """Each form is bit-identical at its minimum budget."""
        least = budgets(job.request())[-1]
        made = run_watched(job.request(vram=f"{least}B"), tmp_path / "run")
        assert torch.equal(made.frames, expected(pipeline, job))


class TestRounding:
    """Without `--exact` choices that round otherwise are taken."""

    BOUND = 1e-4  # of frames from 0 to 1

    @pytest.mark.parametrize("tokens", [3, 80])
    def test_frames_are_near_the_pipelines(
        self, pipeline: WanPipeline, tokens: int, tmp_path: Path
    ) -> None:
        """A prompt without its padding and a transformer by rows make the same picture."""
        job = Job(prompt_of(tokens))
        pins = ("encode.tokens=real", "denoise.rows=1024", "decode.strips=whole")
        request = attrs.evolve(job.request(), exact=False, pins=pins)
        made = run_watched(request, tmp_path / "run")
        difference = (made.frames - expected(pipeline, job)).abs().max()
        assert difference <= self.BOUND

    def test_leanest_is_a_level_off_at_most(self, pipeline: WanPipeline, tmp_path: Path) -> None:
        """With all that rounds, strips too, whose frames are levels of 0 to 255."""
        job = Job(prompt_of(3))
        pins = ("encode.tokens=real", "denoise.rows=grouped", "decode.strips=strips.1")
        request = attrs.evolve(job.request(), exact=False, pins=pins)
        made = run_watched(request, tmp_path / "run")
        wanted = (expected(pipeline, job) * 255).round()
        assert made.frames.dtype == torch.uint8
        assert (made.frames.float() - wanted).abs().max() <= 1
