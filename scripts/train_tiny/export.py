"""Write the trained parts as a diffusers folder, in the precision they were trained in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler

from scripts.train_tiny.dit import SHIFT, Model
from scripts.train_tiny.tokens import write_tokenizer

_INDEX = {
    "_class_name": "WanPipeline",
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLWan"],
}


def export(model: Model, vae: Any, scale: torch.Tensor, folder: Path) -> int:
    """Write the folder; return the bytes of its files."""
    mean, deviation = ([round(float(v), 4) for v in row] for row in scale.flatten(1))
    vae.register_to_config(latents_mean=mean, latents_std=deviation)
    model.text.save_pretrained(folder / "text_encoder")
    model.transformer.save_pretrained(folder / "transformer")
    vae.save_pretrained(folder / "vae")
    sampler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT
    )
    sampler.save_pretrained(folder / "scheduler")
    write_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(_INDEX, indent=2) + "\n")
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        path.chmod(0o644)  # safetensors writes for the owner alone
    return sum(path.stat().st_size for path in files)
