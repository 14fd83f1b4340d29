"""Wan's block by chunks of rows as `dit_rows.py` has it, with compiled kernels between products.

Batches of one. The hidden state `[1, tokens, width]` is updated in place.
"""

from __future__ import annotations

from typing import Any

import torch

from wanflow.models.packing.linear import Apply, opened
from wanflow.models.trees.attention import dispatch, heads_of
from wanflow.models.wan import kernels
from wanflow.models.wan.dit import TEXT_TOKENS
from wanflow.models.wan.dit_rows import Rows, Scales
from wanflow.models.wan.kernels import Product
from wanflow.models.wan.rope import WholeRope


def attend(block: Any, hidden: torch.Tensor, scaled: Scales, rope: WholeRope, rows: Rows) -> None:
    """Run a block's self-attention on *hidden*, in place."""
    attn, tokens = block.attn1, hidden.shape[1]
    key, value = _keys_values(block, hidden, scaled, rope, rows)
    once = rows.count(tokens) == 1
    to_query, project = opened(attn.to_q, once=once), opened(attn.to_out[0], once=once)
    for part in rows.chunks(tokens):
        asking = Product.of(to_query, _modulated(block.norm1, hidden, scaled, part, 0))
        query = torch.empty_like(asking.rows)
        kernels.turned(asking, attn.norm_q, *rope.rows(part), query)
        del asking
        attended = dispatch(attn, heads_of(attn, query[None]), key, value)
        del query
        product = Product.of(project, _flat(attended))
        del attended
        kernels.add_gated_(_flat(hidden[:, part]), product, _flat(scaled.of(2, part)))


def _keys_values(
    block: Any, hidden: torch.Tensor, scaled: Scales, rope: WholeRope, rows: Rows
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys (normed, turned) and values of all tokens, `[1, tokens, heads, head width]`."""
    attn, tokens = block.attn1, hidden.shape[1]
    once = rows.count(tokens) == 1
    to_key, to_value = opened(attn.to_k, once=once), opened(attn.to_v, once=once)
    key, value = torch.empty_like(hidden), torch.empty_like(hidden)
    for part in rows.chunks(tokens):
        normed = _modulated(block.norm1, hidden, scaled, part, 0)
        kernels.turned(
            Product.of(to_key, normed), attn.norm_k, *rope.rows(part), _flat(key[:, part])
        )
        value[:, part] = to_value(normed)
    return heads_of(attn, key), heads_of(attn, value)


def cross(block: Any, hidden: torch.Tensor, context: torch.Tensor, rows: Rows) -> None:
    """Run a block's cross-attention on *hidden*, in place; an image's tokens come before text's."""
    attn, image = block.attn2, None
    if attn.add_k_proj is not None:
        seen = context[:, : context.shape[1] - TEXT_TOKENS]
        context = context[:, context.shape[1] - TEXT_TOKENS :]
        added = attn.norm_added_k(attn.add_k_proj(seen)), attn.add_v_proj(seen)
        image = heads_of(attn, added[0]), heads_of(attn, added[1])
    key = _heads(attn, Product.of(attn.to_k, _flat(context)), attn.norm_k)
    value = heads_of(attn, attn.to_v(context))
    wide, tokens = rows.wide(hidden.shape[1]), hidden.shape[1]
    once = wide.count(tokens) == 1
    to_query, project = opened(attn.to_q, once=once), opened(attn.to_out[0], once=once)
    for part in wide.chunks(tokens):
        x = _flat(hidden[:, part])
        query = _heads(attn, Product.of(to_query, _normed(block.norm2, x)), attn.norm_q)
        attended = dispatch(attn, query, key, value)
        if image is not None:
            attended = attended + dispatch(attn, query, *image)
        del query
        kernels.add_(x, Product.of(project, _flat(attended)))


def feed(block: Any, hidden: torch.Tensor, scaled: Scales, rows: Rows) -> None:
    """Run a block's feed-forward on *hidden*, in place."""
    wide, tokens = rows.wide(hidden.shape[1]), hidden.shape[1]
    once = wide.count(tokens) == 1
    inner, outer = block.ffn.net[0], block.ffn.net[-1]
    first, last = opened(inner.proj, once=once), opened(outer, once=once)
    for part in wide.chunks(tokens):
        product = _fed(first, last, inner, _modulated(block.norm3, hidden, scaled, part, 3))
        kernels.add_gated_(_flat(hidden[:, part]), product, _flat(scaled.of(5, part)))


def _fed(first: Apply, last: Apply, inner: Any, normed: torch.Tensor) -> Product:
    return Product.of(last, kernels.gelu_(Product.of(first, normed), inner.approximate))


def _modulated(
    norm: Any, hidden: torch.Tensor, scaled: Scales, part: slice, first: int
) -> torch.Tensor:
    """Norm, scale and shift a chunk, `[rows, width]`: shift is the row *first* of the scales."""
    scale, shift = _flat(scaled.of(first + 1, part)), _flat(scaled.of(first, part))
    return kernels.modulated(_flat(hidden[:, part]), scale, shift, norm.eps)


def _normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """Norm before cross-attention, where a model has that."""
    if isinstance(norm, torch.nn.Identity):
        return x
    return kernels.normed(x, norm.weight, norm.bias, norm.eps)


def _heads(attn: Any, product: Product, norm: Any) -> torch.Tensor:
    return heads_of(attn, kernels.rms_normed(product, norm)[None])


def _flat(x: torch.Tensor) -> torch.Tensor:
    """View `[1, rows, width]` as `[rows, width]`; a batch could only be copied, and is refused."""
    return x.view(-1, x.shape[-1])
