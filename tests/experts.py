"""Tiny models of two experts: weights from a seed, a folder as diffusers has it, and its graph."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from tests.jobs import TINY
from wanflow.graph.configs import known_config
from wanflow.models.segments.build import allowed

FIELDS = {"t2v": {"num_layers": 3}, "i2v": {"in_channels": 36, "num_layers": 3}}
SWITCH = 0.875


def make_experts(kind: str, folder: Path) -> Path:
    """Write two transformers that differ, and what they share."""
    config = {**known_config("wan-tiny", "transformer"), **FIELDS[kind]}
    for seed, name in enumerate(("transformer", "transformer_2")):
        torch.manual_seed(seed)
        WanTransformer3DModel(**allowed("transformer", config, "")).save_pretrained(folder / name)
    AutoencoderKLWan(**allowed("vae", known_config("wan-tiny", "vae"), "")).save_pretrained(
        folder / "vae"
    )
    for part in ("text_encoder", "tokenizer"):
        (folder / part).symlink_to(TINY / part)
    (folder / "graph.yaml").write_text(_graph(kind))
    return folder


def _graph(kind: str) -> str:
    """Write a graph of two denoise stages, the sampler's history going from one to the other."""
    given, ports = "", ""
    if kind == "i2v":
        given = (
            "  given: {op: encode_frames, model: vae, "
            "in: {image: $image, size: $size, frames: $frames}}\n"
        )
        ports = ", condition: given.latents, mask: given.mask"
    return f"""\
wanflow: 1
name: {kind}-experts
inputs:
  size: {{type: size, default: 64*48}}
  frames: {{type: int, default: 9}}
  steps: {{type: int, default: 6}}
  shift: {{type: float, default: 5.0}}
  guidance_high: {{type: float, default: 4.0}}
  guidance_low: {{type: float, default: 3.0}}
models:
  text: {{part: text_encoder, path: .}}
  high: {{part: transformer, path: transformer}}
  low: {{part: transformer, path: transformer_2}}
  vae: {{part: vae, path: .}}
stages:
  encode: {{op: encode_text, model: text, in: {{prompt: $prompt}}}}
{given}  noise: {{op: noise, in: {{size: $size, frames: $frames, seed: $seed}}}}
  high:
    op: denoise
    model: high
    in: {{text: encode.text, latents: noise.latents{ports}}}
    params: {{steps: $steps, shift: $shift, guidance: $guidance_high, noise_to: $boundary}}
  low:
    op: denoise
    model: low
    in: {{text: encode.text, latents: high.latents, history: high.history{ports}}}
    params: {{steps: $steps, shift: $shift, guidance: $guidance_low, noise_from: $boundary}}
  decode: {{op: decode_frames, model: vae, in: {{latents: low.latents}}}}
  write: {{op: write_video, in: {{frames: decode.frames}}, params: {{fps: $fps}}}}
outputs: {{video: write.file}}
"""
