"""UMT5 by its parts: rows of the embedding, the mask, the halves of a layer, the final norm.

Drives the submodules of `trees/umt5.py` in the order of upstream's forward
(transformers 5, `models/umt5/modeling_umt5.py`, `UMT5Stack.forward` and `UMT5Block.forward`).
"""

from __future__ import annotations

from typing import Any

import torch

from wanflow.models.wan import umt5_heads

EMBEDDING = "shared.weight"
LAYERS = "encoder.block"


def walk(module: Any) -> torch.Tensor:
    """Run all of it once on a few zeros, to see what is used when; the rows are gathered."""
    hidden, mask = torch.zeros(1, 1, module.config.d_model), torch.ones(1, 1, dtype=torch.int64)
    attention = attention_mask(module, hidden, mask)
    for index in range(len(module.encoder.block)):
        hidden = feed(module, index, attend(module, index, hidden, attention))
    return finish(module, hidden, mask, 1)


def attention_mask(_module: Any, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Turn a `[1, tokens]` mask into the layers' boolean `[1, 1, tokens, tokens]`."""
    tokens = hidden.shape[1]
    return mask.bool()[:, None, None, :].expand(-1, 1, tokens, -1).contiguous()


def attend(module: Any, index: int, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Run a layer's attention: `[1, tokens, width]` to the same."""
    return _within(umt5_heads.attend(module.encoder.block[index].layer[0], hidden, mask))


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
