"""Wan's transformer by its parts: rotary tables, the embeddings, a block, the head.

Drives `diffusers.WanTransformer3DModel`'s own submodules in the order of its forward
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
    for index in range(len(module.blocks)):
        hidden = block(module, index, hidden, embedding.context, embedding.modulation, rotary)
    return head(module, hidden, embedding.time, tuple(latents.shape))


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

    *timestep* `[B]`, or `[B, tokens]` where a token has its own; *text* `[B, 512, text width]`.
    """
    dtype = module.patch_embedding.weight.dtype
    hidden = module.patch_embedding(latents.to(dtype))
    hidden = hidden.flatten(2).transpose(1, 2).contiguous()
    per_token = timestep.shape[1] if timestep.dim() == 2 else None
    time, modulation, context, seen = module.condition_embedder(
        timestep.flatten(), text.to(dtype), None if image is None else image.to(dtype), per_token
    )
    if seen is not None:
        context = torch.cat([seen, context], dim=1)
    return Embedded(hidden, time, modulation.unflatten(-1, (6, -1)), context)


def block(
    module: Any,
    index: int,
    hidden: torch.Tensor,
    context: torch.Tensor,
    modulation: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Run one block."""
    return torch.as_tensor(module.blocks[index](hidden, context, modulation, rotary))


def attend(
    module: Any,
    index: int,
    hidden: torch.Tensor,
    modulation: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a block's self-attention: the hidden state, and the scales that `feed` takes too.

    Those are `[B, 6, width]`, or `[B, tokens, 6, width]` where a token has its own timestep.

    `attend`, `cross` and `feed` are one block, as `WanTransformerBlock.forward` has it.
    """
    block = module.blocks[index]
    scales = block.scale_shift_table + modulation.float()
    shift, scale, gate, *_ = _of_tokens(scales)
    normed = (block.norm1(hidden.float()) * (1 + scale) + shift).type_as(hidden)
    attended = block.attn1(normed, None, None, rotary)
    return (hidden.float() + attended * gate).type_as(hidden), scales


def cross(module: Any, index: int, hidden: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """Run a block's cross-attention."""
    block = module.blocks[index]
    normed = block.norm2(hidden.float()).type_as(hidden)
    return torch.as_tensor(hidden + block.attn2(normed, context, None, None))


def feed(module: Any, index: int, hidden: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Run a block's feed-forward."""
    block = module.blocks[index]
    *_, shift, scale, gate = _of_tokens(scales)
    normed = (block.norm3(hidden.float()) * (1 + scale) + shift).type_as(hidden)
    return torch.as_tensor((hidden.float() + block.ffn(normed).float() * gate).type_as(hidden))


def _of_tokens(scales: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Split scales; each `[B, 1 or tokens, width]`."""
    chunks = scales.chunk(6, dim=-2)
    return chunks if scales.dim() == 3 else tuple(chunk.squeeze(2) for chunk in chunks)


def head(
    module: Any, hidden: torch.Tensor, time: torch.Tensor, latent_shape: tuple[int, ...]
) -> torch.Tensor:
    """Norm, project and put the patches back: the prediction, shaped like the latents."""
    if time.dim() == 3:  # a token's own
        scales = module.scale_shift_table.unsqueeze(0) + time.unsqueeze(2)
        shift, scale = (chunk.squeeze(2) for chunk in scales.chunk(2, dim=2))
    else:
        shift, scale = (module.scale_shift_table + time.unsqueeze(1)).chunk(2, dim=1)
    normed = (module.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
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
