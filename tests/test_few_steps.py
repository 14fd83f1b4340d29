"""Timesteps of one's own: the frames of diffusers' Euler on explicit sigmas, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

from tests.jobs import TINY, MeasuredRuns, budgets, run_watched
from tests.pipelines import parts_of
from tests.resuming import cut_short, resumed_frames
from wanflow.graph import bind, load
from wanflow.session import Request, plan
from wanflow.session.preparing.schedule import scheduled
from wanflow.stages.samplers import Sampling

SEED, PROMPT = 11, "a red circle moves right on a blue background"
TIMES, SHIFT = (1000, 750, 500, 250), 5.0
INPUTS: dict[str, Any] = {
    "prompt": PROMPT, "seed": SEED, "size": "32*32", "frames": 5, "shift": SHIFT,
}  # fmt: skip
SETTINGS = ("denoise.sampler=euler", f"denoise.timesteps={','.join(map(str, TIMES))}")
FOUR = Request("t2v-tiny", {**INPUTS, "guidance": 1.0}, device="cpu", exact=True, settings=SETTINGS)
# Guided where the noise is highest, without the LoRA there; the others as the LoRA wants them.
GUIDED_FIRST = """\
wanflow: 1
name: guided-first
models:
  text: {part: text_encoder, config: wan-tiny}
  plain: {part: transformer, config: wan-tiny}
  few: {part: transformer, config: wan-tiny}
  vae: {part: vae, config: wan-tiny}
stages:
  encode: {op: encode_text, model: text, in: {prompt: $prompt}}
  noise: {op: noise, in: {size: $size, frames: $frames, seed: $seed}}
  first:
    op: denoise
    model: plain
    in: {text: encode.text, latents: noise.latents}
    params: {timesteps: [1000, 750, 500, 250], sampler: euler, shift: $shift, guidance: 4, noise_to: 0.95}
  rest:
    op: denoise
    model: few
    in: {text: encode.text, latents: first.latents}
    params: {timesteps: [1000, 750, 500, 250], sampler: euler, shift: $shift, guidance: 1, noise_from: 0.95}
  decode: {op: decode_frames, model: vae, in: {latents: rest.latents}}
  write: {op: write_video, in: {frames: decode.frames}, params: {fps: $fps}}
outputs: {video: write.file}
"""  # noqa: E501


class _Four(FlowMatchEulerDiscreteScheduler):
    """Upstream's scheduler at these levels, which a pipeline doesn't hand on."""

    def set_timesteps(self, *_: Any, device: Any = None, **_options: Any) -> None:
        """Take our timesteps for the number of steps."""
        super().set_timesteps(sigmas=[t / 1000 for t in TIMES], device=device)


def expected(guidance: float, after_step: Callable[[Any], None] | None = None) -> torch.Tensor:
    """The pipeline's frames `[n, 3, H, W]`."""
    pipeline = WanPipeline(**parts_of(TINY), scheduler=_Four(shift=SHIFT))
    pipeline.set_progress_bar_config(disable=True)

    def stepped(pipe: Any, _step: int, _at: Any, given: dict[str, Any]) -> dict[str, Any]:
        if after_step is not None:
            after_step(pipe)
        return given

    frames = pipeline(
        prompt=PROMPT, width=32, height=32, num_frames=5, num_inference_steps=4,
        guidance_scale=guidance, generator=torch.Generator("cpu").manual_seed(SEED),
        output_type="pt", callback_on_step_end=stepped,
    ).frames  # fmt: skip
    return torch.as_tensor(frames[0])


def steps_of(request: Request) -> dict[str, int]:
    """How many steps each stage of denoise has."""
    stages: Any = plan(request).report["stages"]
    return {s["stage"]: s["steps"] for s in stages if s["op"] == "denoise"}


def test_frames_are_the_pipelines(measured_runs: MeasuredRuns) -> None:
    """At the minimum, as many steps as timesteps; what is measured is as planned."""
    assert steps_of(FOUR) == {"denoise": 4}
    _, _, least = budgets(FOUR)
    measured = measured_runs(attrs.evolve(FOUR, vram=f"{least}B"))
    assert torch.equal(measured.frames, expected(1.0))
    measured.assert_within(least)


@pytest.mark.wide
def test_resumed(tmp_path: Path) -> None:
    """Cut short after the second of four steps, it goes on to the same frames."""
    wanted = run_watched(FOUR, tmp_path / "whole").frames
    assert torch.equal(resumed_frames(cut_short(FOUR, tmp_path / "cut", 3)), wanted)


def test_a_guided_first_step(tmp_path: Path) -> None:
    """Two stages that share a schedule are one run whose guidance ends after the first step."""
    graph = tmp_path / "graph.yaml"
    graph.write_text(GUIDED_FIRST)
    request = Request(str(graph), INPUTS, device="cpu", exact=True)
    assert steps_of(request) == {"first": 1, "rest": 3}

    def end_guidance(pipe: Any) -> None:
        pipe._guidance_scale = 1.0

    assert torch.equal(run_watched(request, tmp_path / "run").frames, expected(4.0, end_guidance))


@pytest.mark.parametrize(
    ("graph", "steps"),
    [
        ("t2v-14b-4step", {"denoise": 4}),
        ("t2v-a14b-4step", {"high": 2, "low": 2}),
        ("i2v-a14b-4step", {"high": 2, "low": 2}),
    ],
)
def test_shipped_graphs(graph: str, steps: dict[str, int]) -> None:
    """With a prompt alone, unguided, at the recipe's timesteps; the experts switch after two."""
    bound = scheduled(bind(load(graph), allow_missing_text=True))
    stages = [stage for stage in bound.stages if stage.op.name == "denoise"]
    assert {stage.name: len(stage.steps) for stage in stages} == steps
    for stage in stages:
        assert stage.params["guidance"] == 1
        times = Sampling.of(stage.params).timesteps().tolist()
        assert times == pytest.approx([1000, 937.5, 833.3333, 625])
