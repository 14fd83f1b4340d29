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
    made = embed(module, latents, timestep, torch.zeros(1, TEXT_TOKENS, config.text_dim))
    hidden = made.hidden
    for index in range(len(module.blocks)):
        hidden = block(module, index, hidden, made.context, made.modulation, rotary)
    return head(module, hidden, made.time, tuple(latents.shape))


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
    module: Any, latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor
) -> Embedded:
    """Embed patches, time and text. *timestep* `[B]` int64, *text* `[B, 512, text width]`."""
    dtype = module.patch_embedding.weight.dtype
    hidden = module.patch_embedding(latents.to(dtype))
    hidden = hidden.flatten(2).transpose(1, 2).contiguous()
    time, modulation, context, _ = module.condition_embedder(timestep, text.to(dtype), None)
    return Embedded(hidden, time, modulation.unflatten(1, (6, -1)), context)


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
    """Run a block's self-attention: the hidden state, and `[B, 6, width]` that `feed` takes too.

    `attend`, `cross` and `feed` are one block, as `WanTransformerBlock.forward` has it.
    """
    block = module.blocks[index]
    scales = block.scale_shift_table + modulation.float()
    shift, scale, gate, *_ = scales.chunk(6, dim=1)
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
    *_, shift, scale, gate = scales.chunk(6, dim=1)
    normed = (block.norm3(hidden.float()) * (1 + scale) + shift).type_as(hidden)
    return torch.as_tensor((hidden.float() + block.ffn(normed).float() * gate).type_as(hidden))


def head(
    module: Any, hidden: torch.Tensor, time: torch.Tensor, latent_shape: tuple[int, ...]
) -> torch.Tensor:
    """Norm, project and put the patches back: the prediction, shaped like the latents."""
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
