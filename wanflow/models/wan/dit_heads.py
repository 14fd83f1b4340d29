"""Self-attention by groups of heads: keys and values of one group at a time.

S being the bytes of one hidden state, this takes (2 + 2/G) S instead of three: the hidden state,
the queries, which the attended heads replace, and a group's keys and values. The norm of keys runs
across all heads, so its statistic comes first, at the price of `to_k` a second time. `to_k` and
`to_v` are applied for some of their outputs, so they must be Linears, plain or packed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch

from wanflow.models.packing.linear import is_opened, opened
from wanflow.models.trees.attention import dispatch, heads_of
from wanflow.models.wan.dit import every_block
from wanflow.models.wan.dit_rows import Rows, Scales, add_attended, modulated
from wanflow.models.wan.rope import Rope
from wanflow.scheduler.profile.folded_loops import passes

_ATTENDED = 8  # chunks that are attended at a time: a few heads of them are as much as one of all


def can_group(module: Any) -> bool:
    """Whether nothing wraps the Linears whose weights would be sliced."""
    attns = (block.attn1 for block in every_block(module))
    sliced = (linear for attn in attns for linear in (attn.to_k, attn.to_v))
    return all(type(linear) is torch.nn.Linear or is_opened(linear) for linear in sliced)


def attend(
    block: Any, hidden: torch.Tensor, scaled: Scales, rope: Rope, rows: Rows, groups: int
) -> None:
    """Run a block's self-attention on *hidden*, in place; no more groups than heads."""
    attn, tokens = block.attn1, hidden.shape[1]
    query, statistic = _queries(block, hidden, scaled, rope, rows)
    for heads in _head_groups(attn.heads, min(groups, attn.heads)):
        key, value = _keys_values(block, hidden, scaled, rope, rows, statistic, heads)
        for part in Rows(_ATTENDED * rows.size).chunks(tokens):
            asking = query[:, part, heads]
            asking.copy_(dispatch(attn, asking, key, value).view_as(asking))
        del key, value
    add_attended(attn, hidden, query, scaled, rows)


def _head_groups(heads: int, count: int) -> Iterator[slice]:
    """Cut the heads evenly, the larger groups first."""
    size, larger = divmod(heads, count)
    ends = (size * number + min(number, larger) for number in range(count + 1))
    return passes([slice(*group) for group in itertools.pairwise(ends)])


def _queries(
    block: Any, hidden: torch.Tensor, scaled: Scales, rope: Rope, rows: Rows
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries `[B, tokens, heads, head width]`, and what norms a token's keys, `[B, tokens, 1]`."""
    attn = block.attn1
    query = torch.empty_like(hidden)
    statistic = hidden.new_empty((*hidden.shape[:2], 1), dtype=torch.float32)
    to_query, to_key = opened(attn.to_q), opened(attn.to_k)
    for part in rows.chunks(hidden.shape[1]):
        normed = modulated(block.norm1, hidden[:, part], scaled, part, 0)
        chunk = heads_of(attn, attn.norm_q(to_query(normed)))
        rope.turned(chunk, part, out=heads_of(attn, query)[:, part])
        square = to_key(normed).float().square_().mean(dim=2, keepdim=True)
        statistic[:, part] = torch.rsqrt(square + _epsilon(attn.norm_k))
    return heads_of(attn, query), statistic


def _keys_values(
    block: Any,
    hidden: torch.Tensor,
    scaled: Scales,
    rope: Rope,
    rows: Rows,
    statistic: torch.Tensor,
    heads: slice,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys (normed, turned) and values of a group `[B, tokens, its heads, head width]`."""
    attn = block.attn1
    width = attn.inner_dim // attn.heads
    columns = slice(heads.start * width, heads.stop * width)
    shape = (*hidden.shape[:2], heads.stop - heads.start, width)
    key, value = hidden.new_empty(shape), hidden.new_empty(shape)
    to_key, to_value = opened(attn.to_k, columns), opened(attn.to_v, columns)
    scale = attn.norm_k.weight[columns]
    for part in rows.chunks(hidden.shape[1]):
        normed = modulated(block.norm1, hidden[:, part], scaled, part, 0)
        chunk = to_key(normed).float().mul_(statistic[:, part])
        chunk = chunk.mul_(scale).type_as(normed)
        rope.turned(chunk.unflatten(2, (-1, width)), part, out=key[:, part])
        value[:, part] = to_value(normed).unflatten(2, (-1, width))
    return key, value


def _epsilon(norm: Any) -> float:
    return float(norm.eps)
