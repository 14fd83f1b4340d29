"""The parts of diffusers' pipelines for text, loaded by their own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import AutoTokenizer, UMT5EncoderModel


def parts_of(folder: Path) -> dict[str, Any]:
    """Load tokenizer, text encoder, transformer and VAE of a folder, in fp32."""
    return {
        "tokenizer": AutoTokenizer.from_pretrained(folder / "tokenizer"),
        "text_encoder": UMT5EncoderModel.from_pretrained(folder / "text_encoder"),
        "transformer": WanTransformer3DModel.from_pretrained(folder / "transformer"),
        "vae": AutoencoderKLWan.from_pretrained(folder / "vae"),
    }
