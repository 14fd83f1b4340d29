"""Wan's transformer by its parts: rotary tables, the embeddings, a block, the head.

Drives the submodules of `trees/transformer.py` in the order of upstream's forward
(diffusers 0.42, `models/transformers/transformer_wan.py`). Shapes: latents `[B, C, F, H, W]`,
hidden state `[B, tokens, width]`.
"""

from __future__ import annotations

from typing import Any

import attrs
import torch

LAYERS = "blocks"
TEXT_TOKENS = 512  # that upstream's cross-attention takes for text; what is before is an image


@attrs.frozen
class Embedded:
    """What the blocks take: hidden state, time embedding, its projection, text context."""

    hidden: torch.Tensor
    time: torch.Tensor
    modulation: torch.Tensor
    context: torch.Tensor


def walk(module: Any) -> torch.Tensor:
    """Run all of it once on a few zeros, to see what is used when."""
    config = module.config
    latents = torch.zeros(1, config.in_channels, *config.patch_size)
    rotary = rotary_tables(module, latents, latents.device)
    timestep = torch.zeros(1, dtype=torch.int64)
    text, image = torch.zeros(1, TEXT_TOKENS, config.text_dim), None
    if config.image_dim is not None:
        pictures = 1 if config.pos_embed_seq_len is None else 2
        tokens = 1 if config.pos_embed_seq_len is None else config.pos_embed_seq_len // 2
        image = torch.zeros(pictures, tokens, config.image_dim)
    embedding = embed(module, latents, timestep, text, image)
    hidden = embedding.hidden
    for element in module.blocks:
        hidden = block(element, hidden, embedding.context, embedding.modulation, rotary)
    return head(module, hidden, embedding.time, tuple(latents.shape))


def every_block(module: Any) -> list[Any]:
    """The blocks, and those of VACE beside them."""
    return [*module.blocks, *getattr(module, "vace_blocks", ())]


def rotary_tables(
    module: Any, latents: torch.Tensor, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cosine and sine tables `[1, tokens, 1, head width]`, fp32.

    They depend on the shape alone, so they are made once a stage instead of once a forward. The
    module's own tables are on the meta device, hence a new instance of its class.
    """
    rope, config = type(module.rope), module.config
    maker = rope(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
    cos, sin = maker(latents)
    return cos.to(device), sin.to(device)


def embed(
    module: Any,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    text: torch.Tensor,
    image: torch.Tensor | None = None,
) -> Embedded:
    """Embed patches, time and text; *image* `[pictures, tokens, image width]` goes before text.

    *timestep* `[B]`, or `[N]` that an index spreads over the tokens; *text* `[B, 512, text width]`.
    """
    dtype = module.patch_embedding.weight.dtype
    hidden = module.patch_embedding(latents.to(dtype))
    hidden = hidden.flatten(2).transpose(1, 2).contiguous()
    time, modulation, context, seen = module.condition_embedder(
        timestep, text.to(dtype), None if image is None else image.to(dtype)
    )
    if seen is not None:
        context = torch.cat([seen, context], dim=1)
    return Embedded(hidden, time, modulation.unflatten(-1, (6, -1)), context)


def block(
    block: Any,
    hidden: torch.Tensor,
    context: torch.Tensor,
    modulation: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    times: torch.Tensor | None = None,
) -> torch.Tensor:
    """Run one block; *times* `[B, tokens]` says whose modulation a token has, where they differ."""
    return in_parts(block, hidden, context, modulation, rotary, times)


def in_parts(
    block: Any,
    hidden: torch.Tensor,
    context: torch.Tensor,
    modulation: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    times: torch.Tensor | None = None,
) -> torch.Tensor:
    """Run one block, part by part."""
    hidden, scales = attend(block, hidden, modulation, rotary, times)
    return feed(block, cross(block, hidden, context), scales, times)


def attend(
    block: Any,
    hidden: torch.Tensor,
    modulation: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    times: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a block's self-attention: the hidden state, and the scales `[N, 6, width]` of `feed`.

    `attend`, `cross` and `feed` are one block, as `WanTransformerBlock.forward` has it.
    """
    scales = block.scale_shift_table + modulation.float()
    normed = _modulated(block.norm1(hidden.float()), scales, 0, times).type_as(hidden)
    attended = block.attn1(normed, None, None, rotary)
    return (hidden.float() + attended * _row(scales, 2, times)).type_as(hidden), scales


def cross(block: Any, hidden: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """Run a block's cross-attention."""
    normed = block.norm2(hidden.float()).type_as(hidden)
    return torch.as_tensor(hidden + block.attn2(normed, context, None, None))


def feed(
    block: Any, hidden: torch.Tensor, scales: torch.Tensor, times: torch.Tensor | None = None
) -> torch.Tensor:
    """Run a block's feed-forward."""
    normed = _modulated(block.norm3(hidden.float()), scales, 3, times).type_as(hidden)
    gated = block.ffn(normed).float() * _row(scales, 5, times)
    return torch.as_tensor((hidden.float() + gated).type_as(hidden))


def _modulated(
    normed: torch.Tensor, scales: torch.Tensor, first: int, times: torch.Tensor | None
) -> torch.Tensor:
    """Scale and shift: shift is the row *first* of the scales."""
    return normed * (1 + _row(scales, first + 1, times)) + _row(scales, first, times)


def _row(scales: torch.Tensor, number: int, times: torch.Tensor | None) -> torch.Tensor:
    """One of the scales `[N, 2 or 6, width]`: `[B, 1, width]`, or gathered `[B, tokens, width]`."""
    return scales[:, number : number + 1] if times is None else scales[:, number][times]


def head(
    module: Any,
    hidden: torch.Tensor,
    time: torch.Tensor,
    latent_shape: tuple[int, ...],
    times: torch.Tensor | None = None,
) -> torch.Tensor:
    """Norm, project and put the patches back: the prediction, shaped like the latents."""
    scales = module.scale_shift_table + time.unsqueeze(1)
    normed = _modulated(module.norm_out(hidden.float()), scales, 0, times).type_as(hidden)
    return unpatchify(module, module.proj_out(normed), latent_shape)


def unpatchify(module: Any, patches: torch.Tensor, latent_shape: tuple[int, ...]) -> torch.Tensor:
    """Put patches `[B, tokens, channels of a patch]` back where they were cut out."""
    batch, _, frames, height, width = latent_shape
    patch_t, patch_h, patch_w = module.config.patch_size
    patches = patches.reshape(
        batch, frames // patch_t, height // patch_h, width // patch_w, patch_t, patch_h, patch_w, -1
    )
    patches = patches.permute(0, 7, 1, 4, 2, 5, 3, 6)
    return torch.as_tensor(patches.flatten(6, 7).flatten(4, 5).flatten(2, 3))
