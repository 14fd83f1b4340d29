"""A tiny VACE model with weights from a seed, the files that it is told by, diffusers' frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanVACEPipeline, WanVACETransformer3DModel
from PIL import Image
from transformers import AutoTokenizer, UMT5EncoderModel

from tests.jobs import TINY
from tests.test_equality import SAMPLERS
from wanflow.files.videos import open_video
from wanflow.graph.configs import known_config
from wanflow.session import Request

SEED, STEPS, GUIDANCE, WIDTH, HEIGHT, FRAMES = 11, 2, 5.0, 48, 32, 5
SIZE = WIDTH, HEIGHT
Sides = tuple[int, int]
GRAPH = Path(__file__).parent.parent / "graphs" / "vace-tiny.yaml"
PROMPT = "a red circle moves right on a blue background"


def make_folder(folder: Path) -> Path:
    """Write its weights as diffusers does, and the shipped graph for its few layers.

    What is not of VACE is the bundled model's.
    """
    torch.manual_seed(7)
    config = known_config("wan-tiny-vace", "transformer") | {"num_layers": 3, "vace_layers": [0, 2]}
    WanVACETransformer3DModel(**config).save_pretrained(folder / "transformer")
    graph = GRAPH.read_text().replace("transformer, config: wan-tiny-vace", "transformer, path: .")
    (folder / "graph.yaml").write_text(graph)
    for part in ("text_encoder", "tokenizer", "vae"):
        (folder / part).symlink_to(TINY / part)
    return folder


def write_video(
    path: Path, seed: int, *, grey: bool = False, frames: int = FRAMES, size: Sides = SIZE
) -> str:
    """Write a video of noise in blocks; its path."""
    width, height = size
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            blocks = rng.integers(0, 256, (height // 16, width // 16, 1 if grey else 3), np.uint8)
            pixels = np.broadcast_to(blocks, (*blocks.shape[:2], 3)).repeat(16, 0).repeat(16, 1)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24"))
            )
        container.mux(stream.encode())
    return str(path)


def write_picture(path: Path, seed: int) -> str:
    """Write a picture whose sides are multiples of eight; diffusers stretches others to be so."""
    pixels = np.random.default_rng(seed).integers(0, 256, (72, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def request(folder: Path, given: dict[str, str], **options: Any) -> Request:
    """The job as wanflow takes it."""
    inputs = {
        "prompt": PROMPT, "seed": SEED, "steps": STEPS, "guidance": GUIDANCE, "frames": FRAMES,
        "size": f"{WIDTH}*{HEIGHT}", **given,
    }  # fmt: skip
    graph = str(folder / "graph.yaml")
    return Request(graph, inputs, device="cpu", weights=(str(folder),), **options)


def expected(
    folder: Path, given: dict[str, str], dtype: torch.dtype = torch.float32, scale: float = 1.0
) -> torch.Tensor:
    """The pipeline's frames `[n, 3, H, W]`, its parts loaded by their own classes in *dtype*."""
    pipeline = WanVACEPipeline(
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=dtype),
        transformer=WanVACETransformer3DModel.from_pretrained(
            folder / "transformer", torch_dtype=dtype
        ),
        vae=AutoencoderKLWan.from_pretrained(folder / "vae"),
        scheduler=SAMPLERS["unipc"](),
    )
    pipeline.set_progress_bar_config(disable=True)
    for module in (pipeline.text_encoder, pipeline.transformer, pipeline.vae):
        for parameter in module.parameters():  # aligned as ours; see `test_pictured.expected`
            parameter.data = parameter.data.clone()
    frames = {n: [*open_video(Path(given[n])).frames()] for n in ("video", "mask") if n in given}
    # Diffusers puts each reference before those that came before it.
    paths = [path for path in given.get("reference_images", "").split(",") if path][::-1]
    made = pipeline(
        prompt=PROMPT, width=WIDTH, height=HEIGHT, num_frames=FRAMES, num_inference_steps=STEPS,
        guidance_scale=GUIDANCE, conditioning_scale=scale,
        reference_images=[Image.open(path) for path in paths] or None,
        generator=torch.Generator("cpu").manual_seed(SEED), output_type="pt", **frames,
    )  # fmt: skip
    return torch.as_tensor(made.frames[0])
