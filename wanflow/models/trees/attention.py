"""Attention by the backend that is set on a module; others than PyTorch's own are diffusers'."""

from __future__ import annotations

from typing import Any

import torch

NATIVE = "native"  # PyTorch's own


def heads_of(attn: Any, x: torch.Tensor) -> torch.Tensor:
    """View `[B, rows, width]` as `[B, rows, heads, head width]`."""
    heads: int = attn.heads
    return torch.as_tensor(x.unflatten(2, (heads, -1)))


def dispatch(
    attn: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """Attend without a mask, `[B, rows, heads, head width]` each; gives `[B, rows, width]`."""
    backend = getattr(attn, "backend", NATIVE)
    if backend == NATIVE:  # what diffusers does for it, without the seconds of its import
        output = torch.nn.functional.scaled_dot_product_attention(
            query.permute(0, 2, 1, 3), key.permute(0, 2, 1, 3), value.permute(0, 2, 1, 3)
        ).permute(0, 2, 1, 3)
    else:
        from diffusers.models.attention_dispatch import dispatch_attention_fn

        output = dispatch_attention_fn(query, key, value, backend=backend)
    return torch.as_tensor(output).flatten(2, 3).type_as(query)
