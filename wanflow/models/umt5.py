"""UMT5 by its parts: rows of the embedding, the mask, a layer, the final norm.

Drives `transformers.UMT5EncoderModel`'s own submodules in the order of its forward
(transformers 5, `models/umt5/modeling_umt5.py`, `UMT5Stack.forward`).
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
        hidden = layer(module, index, hidden, attention)
    return finish(module, hidden, mask)


def attention_mask(module: Any, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Turn a `[1, tokens]` mask into the layers' boolean `[1, 1, tokens, tokens]`."""
    from transformers.masking_utils import create_bidirectional_mask

    made = create_bidirectional_mask(
        config=module.encoder.config,
        inputs_embeds=hidden,
        attention_mask=mask,
        allow_is_bidirectional_skip=False,
    )
    assert isinstance(made, torch.Tensor)  # noqa: S101 - sdpa always materialises it
    return made.contiguous()


def layer(module: Any, index: int, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Run one layer: `[1, tokens, width]` to the same."""
    out = module.encoder.block[index](hidden, mask)
    assert isinstance(out, torch.Tensor)  # noqa: S101
    return out


def finish(module: Any, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Apply the final norm and zero what stands for padding, as the Wan pipelines do."""
    normed = module.encoder.final_layer_norm(hidden)
    return torch.as_tensor(normed.masked_fill(mask.unsqueeze(-1) == 0, 0))
