"""A block of which each of several ranks has a share of the rows: keys and values are gathered.

Everything but self-attention is local to a row. S being the bytes of one hidden state of the whole
sequence, R the number of ranks and G that of head groups, a rank's self-attention takes

    its share of hidden state, queries, keys and values          4 S / R
    keys and values of all rows, of one group of heads           2 S / G

Queries are replaced by what was attended, so that nothing else is there for all rows. A row comes
out as on one device: its sums are the same ones, over the same keys in the same order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import attrs
import torch

from wanflow.models.packing.linear import opened
from wanflow.models.trees.attention import dispatch, heads_of
from wanflow.models.wan.dit import unpatchify
from wanflow.models.wan.dit_rows import Rows, Scales, add_gated, modulated, projection
from wanflow.models.wan.rope import Rope
from wanflow.scheduler.profile.folded_loops import passes
from wanflow.scheduler.ranks import Exchange, Group

# Shares begin where a kernel's blocks of rows do, as far as that leaves them of about one length:
# a kernel may treat the last rows of a block otherwise.
_BLOCKS = (256, 128, 64, 32, 16, 8, 4, 2, 1)
_SHARE_BLOCKS = 8
_GROUPS = 8  # of heads, at most


@attrs.frozen
class RowShare:
    """The rows of a sequence among the ranks of a *group*, `place` being this rank's there."""

    tokens: int
    group: Group
    place: int
    exchange: Exchange

    @property
    def ranks(self) -> int:
        """How many share the rows."""
        return len(self.group)

    def parts(self) -> list[slice]:
        """Each rank's rows."""
        least = self.ranks * _SHARE_BLOCKS
        block = next((b for b in _BLOCKS if self.tokens // b >= least), 1)
        blocks, ranks = -(-self.tokens // block), self.ranks
        ends = [min(blocks * n // ranks * block, self.tokens) for n in range(ranks + 1)]
        return [slice(*ends) for ends in itertools.pairwise(ends)]

    @property
    def own(self) -> slice:
        """This rank's rows."""
        return self.parts()[self.place]

    def gather(self, whole: torch.Tensor) -> None:
        """Fill the others' rows of *whole* `[1, tokens, ...]`, contiguous."""
        self.exchange.fill([whole[:, part] for part in self.parts()], self.group)


def attend(
    block: Any, hidden: torch.Tensor, scaled: Scales, rope: Rope, rows: Rows, share: RowShare
) -> None:
    """Run a block's self-attention on a share's *hidden* `[1, rows, width]`, in place."""
    attn, count = block.attn1, hidden.shape[1]
    query, key, value = _local(block, hidden, scaled, rope, rows)
    for heads in _head_groups(attn.heads):
        keys = _gathered(key[:, :, heads], share)
        values = _gathered(value[:, :, heads], share)
        for part in rows.chunks(count):
            asking = query[:, part, heads]
            asking.copy_(dispatch(attn, asking, keys, values).view_as(asking))
        del keys, values
    del key, value
    project = projection(attn, once=rows.count(count) == 1)
    for part in rows.chunks(count):
        add_gated(hidden[:, part], project(query[:, part].flatten(2)), scaled.of(2, part))


def _head_groups(heads: int) -> Iterator[slice]:
    """Cut the heads into groups of one size, so many as divide them."""
    count = next(n for n in range(min(_GROUPS, heads), 0, -1) if heads % n == 0)
    size = heads // count
    return passes([slice(first, first + size) for first in range(0, heads, size)])


def _local(
    block: Any, hidden: torch.Tensor, scaled: Scales, rope: Rope, rows: Rows
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys (both normed and turned) and values of a share, `[1, rows, heads, width]`."""
    attn, count = block.attn1, hidden.shape[1]
    once = rows.count(count) == 1
    linears = [opened(linear, once=once) for linear in (attn.to_q, attn.to_k, attn.to_v)]
    shape = (*hidden.shape[:2], attn.heads, hidden.shape[2] // attn.heads)
    query, key, value = (hidden.new_empty(shape) for _ in linears)
    for part in rows.chunks(count):
        normed = modulated(block.norm1, hidden[:, part], scaled, part, 0)
        rope.turned(heads_of(attn, attn.norm_q(linears[0](normed))), part, out=query[:, part])
        rope.turned(heads_of(attn, attn.norm_k(linears[1](normed))), part, out=key[:, part])
        value[:, part] = heads_of(attn, linears[2](normed))
    return query, key, value


def _gathered(local: torch.Tensor, share: RowShare) -> torch.Tensor:
    whole = local.new_empty(local.shape[0], share.tokens, *local.shape[2:])
    whole[:, share.own] = local
    share.gather(whole)
    return whole


def head(
    module: Any,
    hidden: torch.Tensor,
    time: torch.Tensor,
    latent_shape: tuple[int, ...],
    rows: Rows,
    share: RowShare,
    index: torch.Tensor | None = None,
) -> torch.Tensor:
    """Norm and project a share, gather all rows, put the patches back: the whole prediction."""
    scaled = Scales.of_sum(module.scale_shift_table + time.unsqueeze(1), (1,), index)
    whole = hidden.new_empty(hidden.shape[0], share.tokens, module.proj_out.out_features)
    own = whole[:, share.own]
    for part in rows.wide(hidden.shape[1]).chunks(hidden.shape[1]):
        normed = modulated(module.norm_out, hidden[:, part], scaled, part, 0)
        own[:, part] = module.proj_out(normed)
    share.gather(whole)
    return unpatchify(module, whole, latent_shape)
