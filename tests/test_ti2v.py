"""Wan 2.2's TI2V, with its residual VAE of patches, is diffusers', from text and from a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from PIL import Image

from tests.jobs import TINY, MeasuredRuns, budgets, run_watched
from tests.pictured import picture
from tests.pipelines import parts_of
from tests.test_equality import SAMPLERS
from wanflow.graph.configs import known_config
from wanflow.models.segments.build import allowed
from wanflow.session import Request

SEED, PROMPT = 11, "a red circle moves right on a blue background"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights from a seed."""
    folder = tmp_path_factory.mktemp("ti2v")
    torch.manual_seed(3)
    for part, kind in (("transformer", WanTransformer3DModel), ("vae", AutoencoderKLWan)):
        config = {**known_config("wan-tiny-ti2v", part)}
        kind(**allowed(part, config, "")).save_pretrained(folder / part)
    for part in ("text_encoder", "tokenizer"):
        (folder / part).symlink_to(TINY / part)
    return folder


def request(folder: Path, image: str = "", **options: Any) -> Request:
    """The job as wanflow takes it."""
    inputs: dict[str, Any] = {"prompt": PROMPT, "seed": SEED, "frames": 9, "steps": 3}
    inputs |= {"image": image} if image else {}
    options.setdefault("exact", True)
    weights = (str(folder),)
    return Request("ti2v-tiny", inputs, device="cpu", weights=weights, **options)


def expected(folder: Path, image: str) -> torch.Tensor:
    """The pipeline's frames `[n, 3, H, W]`, its parts loaded by their own classes."""
    pipeline = (WanImageToVideoPipeline if image else WanPipeline)(
        **parts_of(folder),
        scheduler=SAMPLERS["unipc"](),
        expand_timesteps=True,
    )
    pipeline.set_progress_bar_config(disable=True)
    given = {"image": Image.open(image).convert("RGB")} if image else {}
    frames = pipeline(
        **given, prompt=PROMPT, width=64, height=64, num_frames=9, num_inference_steps=3,
        guidance_scale=3.0, generator=torch.Generator("cpu").manual_seed(SEED), output_type="pt",
    ).frames  # fmt: skip
    return torch.as_tensor(frames[0])


@pytest.mark.parametrize("has_image", [False, True], ids=["text", "picture"])
def test_frames_are_the_pipelines(
    folder: Path, has_image: bool, tmp_path: Path, measured_runs: MeasuredRuns
) -> None:
    """With everything resident and at the minimum; what is measured is as planned."""
    image = picture(tmp_path / "first.png", 1, 64, 64) if has_image else ""
    wanted = expected(folder, image)
    most, _, least = budgets(request(folder, image))
    for budget in (most, least):
        measured = measured_runs(request(folder, image, vram=f"{budget}B"))
        assert torch.equal(measured.frames, wanted), budget
        measured.assert_within(budget)


@pytest.mark.parametrize(
    ("has_image", "pin"),
    [
        (False, "denoise.rows=1024"),
        (True, "denoise.rows=grouped"),
        (True, "decode.strips=strips.1"),
        (True, "given.strips=strips.1"),
    ],
)
def test_in_rows_and_strips(folder: Path, has_image: bool, pin: str, tmp_path: Path) -> None:
    """What rounds is near: strips of a VAE of patches, rows that take their own timestep."""
    image = picture(tmp_path / "first.png", 1, 64, 64) if has_image else ""
    wanted = (expected(folder, image) * 255).round()
    frames = run_watched(request(folder, image, pins=(pin,), exact=False), tmp_path / "r").frames
    levels = frames.float() if frames.dtype == torch.uint8 else (frames * 255).round()
    assert (levels - wanted).abs().max() <= 1
