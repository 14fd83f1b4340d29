"""Wan's transformer as a tree of modules, VACE's blocks too: names, shapes and sums of diffusers'.

Importing `diffusers.WanTransformer3DModel` takes nearly three seconds, for loaders and compilers
that no run uses. After diffusers 0.42, `models/transformers/transformer_wan.py`,
`transformer_wan_vace.py`, and of `models/` what those build on (`embeddings.py`, `attention.py`,
`normalization.py`, `activations.py`); Apache 2.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from wanflow.models.trees.attention import NATIVE, dispatch, heads_of

# What diffusers' constructors fill in.
_DEFAULTS: Mapping[str, Any] = {
    "patch_size": (1, 2, 2), "num_attention_heads": 40, "attention_head_dim": 128,
    "in_channels": 16, "out_channels": 16, "text_dim": 4096, "freq_dim": 256, "ffn_dim": 13824,
    "num_layers": 40, "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "eps": 1e-6,
    "image_dim": None, "added_kv_proj_dim": None, "rope_max_seq_len": 1024,
    "pos_embed_seq_len": None,
}  # fmt: skip
_VACE_DEFAULTS: Mapping[str, Any] = {
    "vace_layers": [0, 5, 10, 15, 20, 25, 30, 35], "vace_in_channels": 96,
}  # fmt: skip
_TEXT_TOKENS = 512  # what is before them in the context is an image
_THETA, _LONGEST_PERIOD = 10000.0, 10000

Tables = tuple[torch.Tensor, torch.Tensor]


class Norm32(nn.LayerNorm):
    """A LayerNorm that computes in fp32, whatever comes in."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise the last dimension."""
        weight, bias = (None, None)
        if self.elementwise_affine:
            weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class Gelu(nn.Module):
    """A projection and GELU."""

    def __init__(self, width: int, inner: int, approximate: str) -> None:
        super().__init__()
        self.proj = nn.Linear(width, inner)
        self.approximate = approximate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run it."""
        return self.gelu(self.proj(x))

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        """What comes after the projection, which rows of a packed weight do by themselves."""
        return F.gelu(x, approximate=self.approximate)


class FeedForward(nn.Module):
    """A feed-forward; its dropout, which upstream has a place for, never drops anything."""

    def __init__(self, width: int, inner: int, out: int, approximate: str) -> None:
        super().__init__()
        self.net = nn.ModuleList(
            [Gelu(width, inner, approximate), nn.Dropout(0.0), nn.Linear(inner, out)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run it."""
        return torch.as_tensor(self.net[2](self.net[0](x)))


class Attention(nn.Module):
    """Attention with norms across all heads of queries and keys; *added_width* is an image's."""

    def __init__(self, width: int, heads: int, eps: float, added_width: int | None = None) -> None:
        super().__init__()
        self.heads, self.inner_dim = heads, width // heads * heads
        self.backend = NATIVE
        inner = self.inner_dim
        self.to_q = nn.Linear(width, inner)
        self.to_k = nn.Linear(width, inner)
        self.to_v = nn.Linear(width, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, width), nn.Dropout(0.0)])
        self.norm_q = nn.RMSNorm(inner, eps=eps)
        self.norm_k = nn.RMSNorm(inner, eps=eps)
        self.add_k_proj = self.add_v_proj = None
        if added_width is not None:
            self.add_k_proj = nn.Linear(added_width, inner)
            self.add_v_proj = nn.Linear(added_width, inner)
            self.norm_added_k = nn.RMSNorm(inner, eps=eps)

    def forward(
        self,
        hidden: torch.Tensor,
        context: torch.Tensor | None = None,
        _mask: None = None,
        rotary: Tables | None = None,
    ) -> torch.Tensor:
        """Attend to *context*, or within the hidden state `[B, tokens, width]`."""
        image = None
        if self.add_k_proj is not None and context is not None:
            image, context = context[:, :-_TEXT_TOKENS], context[:, -_TEXT_TOKENS:]
        seen = hidden if context is None else context
        query, key, value = self.to_q(hidden), self.to_k(seen), self.to_v(seen)
        query, key = heads_of(self, self.norm_q(query)), heads_of(self, self.norm_k(key))
        value = heads_of(self, value)
        if rotary is not None:
            query, key = _turned(query, *rotary), _turned(key, *rotary)
        of_image = None
        if image is not None and self.add_k_proj is not None and self.add_v_proj is not None:
            added_key, added_value = self.add_k_proj(image), self.add_v_proj(image)
            added_key = heads_of(self, self.norm_added_k(added_key))
            of_image = dispatch(self, query, added_key, heads_of(self, added_value))
        output = dispatch(self, query, key, value)
        if of_image is not None:
            output = output + of_image
        return torch.as_tensor(self.to_out[0](output))


def _turned(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Turn pairs of numbers by their token's angles."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cosines[..., 0::2], sines[..., 1::2]
    out = torch.empty_like(x)
    out[..., 0::2] = first * cos - second * sin
    out[..., 1::2] = first * sin + second * cos
    return out.type_as(x)


class Timesteps(nn.Module):
    """Cosines and sines of timesteps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        """`[N]` to `[N, channels]`, fp32."""
        half = self.channels // 2
        exponent = -math.log(_LONGEST_PERIOD) * torch.arange(
            start=0, end=half, dtype=torch.float32, device=timesteps.device
        )
        waves = timesteps[:, None].float() * torch.exp(exponent / half)[None, :]
        waves = torch.cat([torch.sin(waves), torch.cos(waves)], dim=-1)
        waves = torch.cat([waves[:, half:], waves[:, :half]], dim=-1)
        return F.pad(waves, (0, 1, 0, 0)) if self.channels % 2 else waves


class TwoLinears(nn.Module):
    """Two Linears and what is between them, called *between* as upstream does (`act`, `act_1`)."""

    def __init__(self, width: int, out: int, between: str, act: nn.Module) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, out)
        self._between = between
        setattr(self, between, act)
        self.linear_2 = nn.Linear(out, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run it."""
        act = getattr(self, self._between)
        return torch.as_tensor(self.linear_2(act(self.linear_1(x))))


class ImageEmbedding(nn.Module):
    """What embeds an image's states."""

    def __init__(self, width: int, out: int, places: int | None) -> None:
        super().__init__()
        self.norm1 = Norm32(width)
        self.ff = FeedForward(width, width, out, "none")
        self.norm2 = Norm32(out)
        self.pos_embed = None
        if places is not None:
            self.pos_embed = nn.Parameter(torch.zeros(1, places, width))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`[pictures, tokens, width]`; with places two pictures are one row of them."""
        if self.pos_embed is not None:
            _, tokens, width = image.shape
            image = image.view(-1, 2 * tokens, width) + self.pos_embed
        return torch.as_tensor(self.norm2(self.ff(self.norm1(image))))


class ConditionEmbedding(nn.Module):
    """What embeds time, text and an image."""

    def __init__(self, width: int, config: Any) -> None:
        super().__init__()
        self.timesteps_proj = Timesteps(config.freq_dim)
        self.time_embedder = TwoLinears(config.freq_dim, width, "act", nn.SiLU())
        self.act_fn = nn.SiLU()
        self.time_proj = nn.Linear(width, width * 6)
        self.text_embedder = TwoLinears(
            config.text_dim, width, "act_1", nn.GELU(approximate="tanh")
        )
        self.image_embedder = None
        if config.image_dim is not None:
            self.image_embedder = ImageEmbedding(config.image_dim, width, config.pos_embed_seq_len)

    def forward(
        self, timestep: torch.Tensor, text: torch.Tensor, image: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Give time `[N, width]`, its projection, text and image embedded."""
        waves = self.timesteps_proj(timestep)
        dtype = next(iter(self.time_embedder.parameters())).dtype
        if dtype not in (waves.dtype, torch.int8):
            waves = waves.to(dtype)
        time = self.time_embedder(waves).type_as(text)
        projected = self.time_proj(self.act_fn(time))
        text = self.text_embedder(text)
        if image is not None and self.image_embedder is not None:
            image = self.image_embedder(image)
        return time, projected, text, image


class Rotary(nn.Module):
    """Rotary tables of places along time, height and width, `[places, head width]` fp32.

    They are made when they are asked for, where they are asked for: on meta they would be nothing.
    """

    def __init__(self, head_width: int, patch_size: tuple[int, ...], places: int) -> None:
        super().__init__()
        self.patch_size, self.places = patch_size, places
        side = 2 * (head_width // 6)
        self.widths = [head_width - 2 * side, side, side]

    @property
    def freqs_cos(self) -> torch.Tensor:
        """Their cosines, each twice."""
        return torch.cat([_table(width, self.places)[0] for width in self.widths], 1)

    @property
    def freqs_sin(self) -> torch.Tensor:
        """Their sines, each twice."""
        return torch.cat([_table(width, self.places)[1] for width in self.widths], 1)

    def forward(self, latents: torch.Tensor) -> Tables:
        """Give the tables `[1, tokens, 1, head width]` of latents `[B, C, F, H, W]`."""
        counts = [n // p for n, p in zip(latents.shape[2:], self.patch_size, strict=True)]
        return self._spread(self.freqs_cos, counts), self._spread(self.freqs_sin, counts)

    def _spread(self, table: torch.Tensor, counts: list[int]) -> torch.Tensor:
        along = []
        for axis, (own, count) in enumerate(
            zip(table.split(self.widths, dim=1), counts, strict=True)
        ):
            shape = [1, 1, 1, -1]
            shape[axis] = count
            along.append(own[:count].view(shape).expand(*counts, -1))
        return torch.cat(along, dim=-1).reshape(1, math.prod(counts), 1, -1)


def _table(width: int, places: int) -> Tables:
    """Cosines and sines `[places, width]` fp32, each number twice, computed in fp64."""
    at = torch.arange(places)
    power = torch.arange(0, width, 2, dtype=torch.float64, device=at.device) / width
    angles = torch.outer(at, 1.0 / (_THETA**power))
    twice = {"dim": 1, "output_size": angles.shape[1] * 2}
    return (
        angles.cos().repeat_interleave(2, **twice).float(),
        angles.sin().repeat_interleave(2, **twice).float(),
    )


class DitBlock(nn.Module):
    """A block, or VACE's *number*th; `models/wan/dit.py` and `dit_vace.py` run it part by part.

    The first of VACE's takes the control in, and all of them give a hint.
    """

    def __init__(self, width: int, config: Any, number: int | None = None) -> None:
        super().__init__()
        heads, eps = config.num_attention_heads, config.eps
        if number is not None:
            self.proj_in = nn.Linear(width, width) if number == 0 else None
        self.norm1 = Norm32(width, eps, elementwise_affine=False)
        self.attn1 = Attention(width, heads, eps)
        self.attn2 = Attention(width, heads, eps, config.added_kv_proj_dim)
        self.norm2 = Norm32(width, eps) if config.cross_attn_norm else nn.Identity()
        self.ffn = FeedForward(width, config.ffn_dim, width, "tanh")
        self.norm3 = Norm32(width, eps, elementwise_affine=False)
        if number is not None:
            self.proj_out = nn.Linear(width, width)
        self.scale_shift_table = nn.Parameter(torch.empty(1, 6, width))


class WanTransformer(nn.Module):
    """All of it, with VACE's blocks where *config* has `vace_layers`."""

    # What diffusers keeps in fp32 at lower precisions, by names of modules.
    _keep_in_fp32_modules = (
        "rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3",
    )  # fmt: skip

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        has_vace = bool(config.get("vace_layers"))
        if has_vace and 0 not in config["vace_layers"]:
            raise ValueError("VACE layers must include layer 0")
        filled = {**_DEFAULTS, **(_VACE_DEFAULTS if has_vace else {}), **config}
        self.config = own = SimpleNamespace(**filled)
        width, patch = own.num_attention_heads * own.attention_head_dim, tuple(own.patch_size)
        self.rope = Rotary(own.attention_head_dim, patch, own.rope_max_seq_len)
        self.patch_embedding = nn.Conv3d(own.in_channels, width, patch, patch)
        if has_vace:
            self.vace_patch_embedding = nn.Conv3d(own.vace_in_channels, width, patch, patch)
        self.condition_embedder = ConditionEmbedding(width, own)
        self.blocks = nn.ModuleList([DitBlock(width, own) for _ in range(own.num_layers)])
        if has_vace:
            self.vace_blocks = nn.ModuleList(
                [DitBlock(width, own, number) for number, _ in enumerate(own.vace_layers)]
            )
        if has_vace and max(own.vace_layers) >= own.num_layers:
            raise ValueError(f"VACE layers {own.vace_layers} of {own.num_layers} layers")
        self.norm_out = Norm32(width, own.eps, elementwise_affine=False)
        self.proj_out = nn.Linear(width, own.out_channels * math.prod(patch))
        self.scale_shift_table = nn.Parameter(torch.empty(1, 2, width))

    def set_attention_backend(self, name: str) -> None:
        """Have every attention go to one of diffusers' backends."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.backend = name
