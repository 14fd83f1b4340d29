"""UMT5 by its parts: rows of the embedding, the mask, the halves of a layer, the final norm.

Drives `transformers.UMT5EncoderModel`'s own submodules in the order of its forward
(transformers 5, `models/umt5/modeling_umt5.py`, `UMT5Stack.forward` and `UMT5Block.forward`).
"""

from __future__ import annotations

from typing import Any

import torch

EMBEDDING = "shared.weight"
LAYERS = "encoder.block"


def walk(module: Any) -> torch.Tensor:
    """Run all of it once on a few zeros, to see what is used when; the rows are gathered."""
    hidden, mask = torch.zeros(1, 1, module.config.d_model), torch.ones(1, 1, dtype=torch.int64)
    attention = attention_mask(module, hidden, mask)
    for index in range(len(module.encoder.block)):
        hidden = feed(module, index, attend(module, index, hidden, attention))
    return finish(module, hidden, mask, 1)


def attention_mask(module: Any, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Turn a `[1, tokens]` mask into the layers' boolean `[1, 1, tokens, tokens]`."""
    from transformers.masking_utils import create_bidirectional_mask

    full_mask = create_bidirectional_mask(
        config=module.encoder.config,
        inputs_embeds=hidden,
        attention_mask=mask,
        allow_is_bidirectional_skip=False,
    )
    assert isinstance(full_mask, torch.Tensor)  # noqa: S101 - sdpa always materialises it
    return full_mask.contiguous()


def attend(module: Any, index: int, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Run a layer's attention: `[1, tokens, width]` to the same."""
    return _within(module.encoder.block[index].layer[0](hidden, mask)[0])


def feed(module: Any, index: int, hidden: torch.Tensor) -> torch.Tensor:
    """Run a layer's feed-forward, which comes after its attention."""
    return _within(module.encoder.block[index].layer[-1](hidden))


def _within(hidden: torch.Tensor) -> torch.Tensor:
    """Keep fp16 from infinity, as upstream does after each half."""
    if hidden.dtype != torch.float16:
        return hidden
    most = torch.finfo(torch.float16).max
    bound = torch.where(torch.isinf(hidden).any(), most - 1000, most)
    return torch.clamp(hidden, min=-bound, max=bound)


def finish(module: Any, hidden: torch.Tensor, mask: torch.Tensor, tokens: int) -> torch.Tensor:
    """Apply the final norm and zero what stands for padding, as the Wan pipelines do.

    `[1, n, width]` becomes `[1, tokens, width]`: what was not encoded is zero too.
    """
    normed = module.encoder.final_layer_norm(hidden)
    states = torch.as_tensor(normed.masked_fill(mask.unsqueeze(-1) == 0, 0))
    short = tokens - states.shape[1]
    return torch.nn.functional.pad(states, (0, 0, 0, short)) if short else states
