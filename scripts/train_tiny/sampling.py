"""Make clips from many prompts at once: what `t2v-tiny` and `i2v-tiny` compute for one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn
from transformers import UMT5EncoderModel

from scripts.train_tiny.dit import SHIFT, QuickAttention, given_times, padding_bias, tokenize

_TOKENS = 512
_LATENTS = (16, 5, 8, 8)
_Encoded = tuple[torch.Tensor, torch.Tensor]  # the text, and its padding's weight as a bias


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


def _encode(parts: Parts, prompts: Sequence[str]) -> _Encoded:
    ids, mask = tokenize(parts.tokenizer, list(prompts))
    hidden = parts.text(input_ids=ids, attention_mask=mask).last_hidden_state
    total = torch.full((len(prompts),), float(_TOKENS))
    return hidden.masked_fill(mask.unsqueeze(-1) == 0, 0), padding_bias(mask, total)


def _statistics(parts: Parts) -> tuple[torch.Tensor, ...]:
    """Mean and deviation of the latents' channels: `[1, 16, 1, 1, 1]` each."""
    config = parts.vae.config
    both = (config.latents_mean, config.latents_std)
    return tuple(torch.tensor(values).view(1, -1, 1, 1, 1) for values in both)


@attrs.frozen
class _Guided:
    """The transformer under guidance; first frames that are given have a time of zero."""

    parts: Parts
    said: _Encoded
    nothing: _Encoded
    guidance: float
    given: torch.Tensor | None  # latents `[n, 16, 1, 8, 8]`

    def velocities(self, latents: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Predict for all prompts at a step's time."""
        toward = self._forward(latents, time, self.said)
        if self.guidance <= 1:
            return toward
        away = self._forward(latents, time, self.nothing)
        return away + self.guidance * (toward - away)

    def _forward(self, latents: torch.Tensor, time: torch.Tensor, text: _Encoded) -> torch.Tensor:
        hidden, self.parts.attention.bias = text
        times = time.expand(len(latents))
        if self.given is not None:
            times = given_times(times)
        return torch.as_tensor(self.parts.transformer(latents, times, hidden, return_dict=False)[0])

    def joined(self, latents: torch.Tensor) -> torch.Tensor:
        """Put the given frames in."""
        if self.given is None:
            return latents
        return torch.cat([self.given, latents[:, :, 1:]], dim=2)


@torch.no_grad()
def generate(
    parts: Parts, prompts: Sequence[str], seeds: Sequence[int], *, steps: int, guidance: float,
    first: NDArray[np.uint8] | None = None,
) -> torch.Tensor:  # fmt: skip
    """Make a clip a prompt: uint8 `[n, frames, height, width, 3]`.

    *first* are given first frames, uint8 `[n, height, width, 3]`.
    """
    noises = [torch.randn(_LATENTS, generator=torch.Generator().manual_seed(s)) for s in seeds]
    latents, (mean, deviation), given = torch.stack(noises), _statistics(parts), None
    if first is not None:
        pixels = torch.from_numpy(first).permute(0, 3, 1, 2).unsqueeze(2).float() / 127.5 - 1
        given = (parts.vae.encode(pixels).latent_dist.mode() - mean) / deviation
    said, nothing = (_encode(parts, some) for some in (prompts, [""] * len(prompts)))
    guided = _Guided(parts, said, nothing, guidance, given)
    sampler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT
    )
    sampler.set_timesteps(steps)
    for time in sampler.timesteps:
        toward = guided.velocities(guided.joined(latents), time)
        latents = sampler.step(toward, time, latents, return_dict=False)[0]
    latents = guided.joined(latents)
    frames = [parts.vae.decode(one[None] * deviation + mean).sample[0] for one in latents]
    pixels = (torch.stack(frames) / 2 + 0.5).clamp(0, 1) * 255
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()
