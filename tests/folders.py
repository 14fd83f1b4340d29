"""Folders of the tiny configurations that have no bundled weights, as diffusers lays them out."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import UniPCMultistepScheduler

from scripts.make_checkpoint import model_index
from tests.jobs import TINY
from wanflow.graph.configs import known_config
from wanflow.models.segments.build import allowed, transformer_class

# What a converted folder says whatever its model is: nothing may read it.
_WRONG_SHIFT, _WRONG_BOUNDARY = 3.0, 0.5


def make_model(config: str, folder: Path, *, experts: bool = False) -> Path:
    """Write a model of a known configuration, weights from a seed; with *experts* two transformers.

    Text encoder and tokenizer are the bundled model's, and so is the VAE where it is the same.
    """
    folder.mkdir(parents=True)
    names = ("transformer", "transformer_2") if experts else ("transformer",)
    for number, name in enumerate(names):
        _module("transformer", config, 7 + number).save_pretrained(folder / name)
    if known_config(config, "vae") == known_config("wan-tiny", "vae"):
        (folder / "vae").symlink_to(TINY / "vae")
    else:
        _module("vae", config, 6).save_pretrained(folder / "vae")
    for part in ("text_encoder", "tokenizer"):
        (folder / part).symlink_to(TINY / part)
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=_WRONG_SHIFT
    ).save_pretrained(folder / "scheduler")
    index = {**model_index(config, names), "boundary_ratio": _WRONG_BOUNDARY}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _module(part: str, config: str, seed: int) -> torch.nn.Module:
    from diffusers import AutoencoderKLWan

    fields = allowed(part, known_config(config, part), config)
    torch.manual_seed(seed)
    return AutoencoderKLWan(**fields) if part == "vae" else transformer_class(fields)(**fields)
