"""Tiny models that start from pictures: weights from a seed, a folder and a graph of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel

from tests.jobs import TINY
from wanflow.graph.configs import known_config
from wanflow.models.segments.build import allowed

_TOWER = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 16,  # as the official code has it, whatever the width
    "image_size": 28, "patch_size": 14, "hidden_act": "gelu",
}  # fmt: skip
TALL = "32*112"  # more latent rows than a strip of any setting has
_TOKENS = 5  # of a picture: four patches and their class


@attrs.frozen
class Twin:
    """A tiny twin: the fields in which its transformer differs, and how a graph wires it."""

    name: str
    fields: dict[str, Any]
    condition: str  # ports of encode_frames
    image: str = ""  # ports of encode_image


_I2V = {"in_channels": 36, "image_dim": 64, "added_kv_proj_dim": 128, "num_layers": 3}
TWINS = {
    "i2v": Twin(
        "i2v", _I2V, "image: $image, size: $size, frames: $frames", "image: $image"
    ),
    "flf2v": Twin(
        "flf2v", {**_I2V, "pos_embed_seq_len": 2 * _TOKENS},
        "image: $image, last_image: $last_image, size: $size, frames: $frames",
        "image: $image, last_image: $last_image",
    ),
    "i2v-2.2": Twin(
        "i2v-2.2", {"in_channels": 36, "num_layers": 3},
        "image: $image, last_image: $last_image, size: $size, frames: $frames",
    ),
    "ti2v": Twin(
        "ti2v", {"num_layers": 3}, "image: $image, size: $size, frames: 1",
    ),
}  # fmt: skip


def make_folder(twin: Twin, folder: Path) -> Path:
    """Write the weights that the bundled model has no twin of, as diffusers and transformers do."""
    torch.manual_seed(7)
    config = allowed("transformer", {**known_config("wan-tiny", "transformer"), **twin.fields}, "")
    dit = WanTransformer3DModel(**config)
    for name, parameter in dit.named_parameters():
        if name.endswith("pos_embed"):  # zeros would say nothing
            torch.nn.init.normal_(parameter)
    dit.save_pretrained(folder / "transformer")
    AutoencoderKLWan(**allowed("vae", known_config("wan-tiny", "vae"), "")).save_pretrained(
        folder / "vae"
    )
    if twin.image:
        CLIPVisionModel(CLIPVisionConfig(**_TOWER)).save_pretrained(folder / "image_encoder")
    for part in ("text_encoder", "tokenizer"):
        (folder / part).symlink_to(TINY / part)
    (folder / "graph.yaml").write_text(_graph(twin))
    return folder


def _graph(twin: Twin) -> str:
    """Write a graph whose models' shapes come from the weights' own `config.json`."""
    tower, see, port = "", "", ""
    if twin.image:
        tower = "  clip: {part: image_encoder, path: .}\n"
        see = f"  see: {{op: encode_image, model: clip, in: {{{twin.image}}}}}\n"
        port = ", image: see.image"
    mask = ", mask: given.mask" if twin.name != "ti2v" else ""
    optional = twin.name == "i2v-2.2"
    last = "  last_image: {type: image, default: ''}\n" if optional else ""
    return f"""\
wanflow: 1
name: {twin.name.replace(".", "-")}-tiny
inputs:
  size: {{type: size, default: 64*48}}
  frames: {{type: int, default: 9}}
  steps: {{type: int, default: 3}}
  shift: {{type: float, default: 3.0}}
{last}models:
  text: {{part: text_encoder, path: .}}
{tower}  dit: {{part: transformer, path: .}}
  vae: {{part: vae, path: .}}
stages:
  encode: {{op: encode_text, model: text, in: {{prompt: $prompt}}}}
{see}  given: {{op: encode_frames, model: vae, in: {{{twin.condition}}}}}
  noise: {{op: noise, in: {{size: $size, frames: $frames, seed: $seed}}}}
  denoise:
    op: denoise
    model: dit
    in: {{text: encode.text, latents: noise.latents, condition: given.latents{mask}{port}}}
    params: {{steps: $steps, shift: $shift, guidance: $guidance}}
  decode: {{op: decode_frames, model: vae, in: {{latents: denoise.latents}}}}
  write: {{op: write_video, in: {{frames: decode.frames}}, params: {{fps: $fps}}}}
outputs: {{video: write.file}}
"""


def picture(path: Path, seed: int, width: int = 90, height: int = 70) -> str:
    """Write a picture of its own shape and colours; its path."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)
