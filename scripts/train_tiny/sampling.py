"""Make clips from many prompts at once: what the graph `t2v-tiny` computes for one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from tokenizers import Tokenizer
from torch import nn
from transformers import UMT5EncoderModel

from scripts.train_tiny.dit import SHIFT, QuickAttention, padding_bias, tokenize

_TOKENS = 512
_LATENTS = (16, 5, 8, 8)


@attrs.frozen
class Parts:
    """The bundled model's parts."""

    text: Any
    transformer: Any
    vae: Any
    tokenizer: Tokenizer
    attention: QuickAttention


def load_parts(folder: Path) -> Parts:
    """Load a diffusers folder in single precision."""
    text = UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    transformer: nn.Module = WanTransformer3DModel.from_pretrained(folder / "transformer").eval()
    vae = AutoencoderKLWan.from_pretrained(folder / "vae").eval()
    attention = QuickAttention()
    for block in transformer.blocks:  # type: ignore[union-attr]
        block.attn1.set_processor(attention)
        block.attn2.set_processor(attention)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    return Parts(text, transformer, vae, tokenizer, attention)


def _encode(parts: Parts, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = tokenize(parts.tokenizer, list(prompts))
    hidden = parts.text(input_ids=ids, attention_mask=mask).last_hidden_state
    total = torch.full((len(prompts),), float(_TOKENS))
    return hidden.masked_fill(mask.unsqueeze(-1) == 0, 0), padding_bias(mask, total)


@torch.no_grad()
def generate(
    parts: Parts, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, guidance: float
) -> torch.Tensor:
    """Make a clip a prompt: uint8 `[n, frames, height, width, 3]`."""
    noises = [torch.randn(_LATENTS, generator=torch.Generator().manual_seed(s)) for s in seeds]
    latents = torch.stack(noises)
    text, bias = _encode(parts, prompts)
    nothing, empty = _encode(parts, [""] * len(prompts))
    sampler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT
    )
    sampler.set_timesteps(steps)
    for time in sampler.timesteps:
        at = time.expand(len(prompts))
        parts.attention.bias = bias
        toward = parts.transformer(latents, at, text, return_dict=False)[0]
        if guidance > 1:
            parts.attention.bias = empty
            away = parts.transformer(latents, at, nothing, return_dict=False)[0]
            toward = away + guidance * (toward - away)
        latents = sampler.step(toward, time, latents, return_dict=False)[0]
    config = parts.vae.config
    mean, deviation = (
        torch.tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std)
    )
    frames = [parts.vae.decode(one[None] * deviation + mean).sample[0] for one in latents]
    pixels = (torch.stack(frames) / 2 + 0.5).clamp(0, 1) * 255
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()
