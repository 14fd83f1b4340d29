"""Attention through diffusers' dispatcher: the backend is the one set on the module.

`module.set_attention_backend("sage")` is heeded as in upstream's own forward.
"""

from __future__ import annotations

from typing import Any

import torch


def heads_of(attn: Any, x: torch.Tensor) -> torch.Tensor:
    """View `[B, rows, width]` as `[B, rows, heads, head width]`."""
    heads: int = attn.heads
    return torch.as_tensor(x.unflatten(2, (heads, -1)))


def dispatch(
    attn: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """Attend without a mask, `[B, rows, heads, head width]` each; gives `[B, rows, width]`."""
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    backend = attn.processor._attention_backend  # noqa: SLF001 - where upstream's setter puts it
    output = dispatch_attention_fn(query, key, value, backend=backend)
    return torch.as_tensor(output).flatten(2, 3).type_as(query)
