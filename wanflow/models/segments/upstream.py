"""Build the modules of diffusers and transformers that ours stand for, to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from wanflow.models.segments.build import allowed, build, is_vace, transformer_class


def build_upstream(part: str, config: Mapping[str, object]) -> torch.nn.Module:
    """Build upstream's module of a part as `build` does ours: on meta, in eval mode, no gradients.

    Its forwards are upstream's; the transformer attends natively.
    """
    values = allowed(part, config, "config")
    with torch.device("meta"):
        module: Any
        if part == "text_encoder":
            from transformers import UMT5Config, UMT5EncoderModel

            settings = UMT5Config(**values)
            settings._attn_implementation = "sdpa"  # noqa: SLF001 - there is no other way without weights
            module = UMT5EncoderModel(settings)
        elif part == "transformer":
            fields = {n: v for n, v in values.items() if "vace" not in n or is_vace(values)}
            module = transformer_class(values)(**fields)
        elif part == "vae":
            from diffusers import AutoencoderKLWan

            module = AutoencoderKLWan(**values)
        else:
            module = build(part, config)
    if part == "transformer":
        module.set_attention_backend("native")
    built: torch.nn.Module = module.eval().requires_grad_(requires_grad=False)
    return built
