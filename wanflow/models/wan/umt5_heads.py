"""UMT5's self-attention a group of heads at a time: the same bits, a fraction of the memory.

Drives the submodules of a `UMT5LayerSelfAttention` in the order of its forward and of the sdpa
interface that it calls (transformers 5, `models/umt5/modeling_umt5.py`,
`integrations/sdpa_attention.py`). What is large there is the position bias, `[1, heads, tokens,
tokens]`, and its copy with the mask in it. Both depend on a head alone, and the bias on nothing but
how far two tokens lie apart: it is looked up once a distance and spread out for a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


def attend(layer: Any, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Run a layer's attention on *hidden* `[1, tokens, width]`, a residual sum; gives the same.

    *mask* is boolean, `[1, 1, tokens, tokens]`: whom a token may look at.
    """
    attn, tokens = layer.SelfAttention, hidden.shape[1]
    normed = layer.layer_norm(hidden)
    query, key, value = (_heads_of(attn, project(normed)) for project in (attn.q, attn.k, attn.v))
    del normed
    bias, hides = _bias_by_distance(attn, tokens), mask.logical_not()
    attended = torch.empty_like(query)
    for part in groups(attn, tokens):
        attended[:, part] = torch.nn.functional.scaled_dot_product_attention(
            query[:, part], key[:, part], value[:, part],
            attn_mask=_spread(bias[part], tokens, hides), scale=attn.scaling,
        )  # fmt: skip
    del query, key, value, hides
    rows = attended.transpose(1, 2).flatten(2)
    return torch.as_tensor(hidden + attn.o(rows))


def groups(attn: Any, tokens: int) -> Iterator[slice]:
    """Cut the heads: a group's scores are no more numbers than one activation of a feed-forward.

    So attention is never what takes the most memory, and few tokens go through all heads at once.
    """
    heads = attn.n_heads
    size = min(max(attn.config.d_ff // tokens, 1), heads)
    for start in range(0, heads, size):
        yield slice(start, min(start + size, heads))


def _heads_of(attn: Any, projected: torch.Tensor) -> torch.Tensor:
    """View `[1, tokens, heads * head width]` as `[1, heads, tokens, head width]`."""
    shape: tuple[int, int] = (attn.n_heads, attn.key_value_proj_dim)
    return torch.as_tensor(projected.unflatten(2, shape)).transpose(1, 2)


def _bias_by_distance(attn: Any, tokens: int) -> torch.Tensor:
    """Look the bias up: `[heads, 2 * tokens - 1]`, of what lies furthest before a token first."""
    ahead = attn.compute_bias(1, tokens)[0, :, 0]
    behind = attn.compute_bias(tokens, 1)[0, :, :, 0]
    return torch.cat([behind.flip(1), ahead[:, 1:]], dim=1)


def _spread(bias: torch.Tensor, tokens: int, hides: torch.Tensor) -> torch.Tensor:
    """Make what is added to a group's scores, `[1, its heads, tokens, tokens]`."""
    spread = bias.unfold(1, tokens, 1).flip(1)
    return spread.masked_fill_(hides[0], torch.finfo(bias.dtype).min).unsqueeze(0)
