"""A block of which each of several ranks has a share of the rows.

Everything but self-attention is local to a row. S being the bytes of one hidden state of the whole
sequence, R the number of ranks and G that of head groups, a rank's self-attention takes, where keys
and values are gathered,

    its share of hidden state, queries, keys and values          4 S / R
    keys and values of all rows, of one group of heads           2 S / G

Queries are replaced by what was attended, so that nothing else is there for all rows. Where ranks
share the heads in it (DeepSpeed-Ulysses), each is sent all rows of its heads and sends back what it
attended, if their number divides them:

        its share of hidden state, and at most                       S / R
        queries, keys and values of both shares                      4 S / R

A row comes out as on one device: its sums are the same ones, over the same keys in the same order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import torch

from wanflow.models.packing.linear import opened
from wanflow.models.trees.attention import dispatch, heads_of
from wanflow.models.wan.dit import unpatchify
from wanflow.models.wan.dit_rows import (
    Rows,
    Scales,
    add_attended,
    fill_patches,
    head_scales,
    modulated,
)
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
    """The rows of a sequence among the ranks of a *group*, `place` being this rank's there.

    With `by_heads` they share the heads in self-attention, whose number they divide.
    """

    tokens: int
    group: Group
    place: int
    exchange: Exchange
    by_heads: bool = False

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

    def gathered(self, local: torch.Tensor) -> torch.Tensor:
        """Make the rows of all, `[1, tokens, ...]`, of this rank's *local* `[1, rows, ...]`."""
        whole = local.new_empty(1, self.tokens, *local.shape[2:])
        whole[:, self.own] = local
        self.gather(whole)
        return whole

    def regroup(self, by_rank: torch.Tensor) -> torch.Tensor:
        """Swap a share's rows of all ranks' heads for all rows of its own heads.

        From `[ranks, rows, their heads, head width]` to `[1, tokens, own heads, head width]`.
        """
        whole = by_rank.new_empty(1, self.tokens, *by_rank.shape[2:])
        rows = [whole[0, part] for part in self.parts()]
        rows[self.place].copy_(by_rank[self.place])
        self._swap(list(by_rank), rows)
        return whole

    def regroup_back(self, whole: torch.Tensor) -> torch.Tensor:
        """Do the opposite."""
        own = self.own
        by_rank = whole.new_empty(self.ranks, own.stop - own.start, *whole.shape[2:])
        by_rank[self.place].copy_(whole[0, own])
        self._swap([whole[0, part] for part in self.parts()], list(by_rank))
        return by_rank

    def _swap(self, sends: Sequence[torch.Tensor], receives: Sequence[torch.Tensor]) -> None:
        """Give each other rank of the group its piece, and be given one by it."""
        others = [(n, rank) for n, rank in enumerate(self.group) if n != self.place]
        self.exchange.trade(
            [(rank, sends[n]) for n, rank in others], [(rank, receives[n]) for n, rank in others]
        )


def attend(
    block: Any, hidden: torch.Tensor, scaled: Scales, rope: Rope, rows: Rows, share: RowShare
) -> None:
    """Run a block's self-attention on a share's *hidden* `[1, rows, width]`, in place."""
    if share.by_heads:
        attend_by_heads(block, hidden, scaled, rope, rows, share)
        return
    attn, count = block.attn1, hidden.shape[1]
    query, key, value = _local(block, hidden, scaled, rope, rows)
    for heads in _head_groups(attn.heads):
        keys = share.gathered(key[:, :, heads])
        values = share.gathered(value[:, :, heads])
        for part in rows.chunks(count):
            asking = query[:, part, heads]
            asking.copy_(dispatch(attn, asking, keys, values).view_as(asking))
        del keys, values
    del key, value
    add_attended(attn, hidden, query, scaled, rows)


def attend_by_heads(
    block: Any, hidden: torch.Tensor, scaled: Scales, rope: Rope, rows: Rows, share: RowShare
) -> None:
    """Do the same where each rank attends some heads of all rows."""
    attn = block.attn1
    pieces = _local(block, hidden, scaled, rope, rows, groups=share.ranks)
    regrouped = []
    while pieces:  # a piece goes as soon as its heads are regrouped
        regrouped.append(share.regroup(pieces.pop(0)))
    query, key, value = regrouped
    del regrouped
    for part in rows.chunks(share.tokens):
        asking = query[:, part]
        asking.copy_(dispatch(attn, asking, key, value).view_as(asking))
    del key, value
    attended = share.regroup_back(query)
    del query
    add_attended(attn, hidden, attended.transpose(0, 1)[None], scaled, rows)


def _head_groups(heads: int) -> Iterator[slice]:
    """Cut the heads into groups of one size, so many as divide them."""
    count = next(n for n in range(min(_GROUPS, heads), 0, -1) if heads % n == 0)
    size = heads // count
    return passes([slice(first, first + size) for first in range(0, heads, size)])


def _local(
    block: Any,
    hidden: torch.Tensor,
    scaled: Scales,
    rope: Rope,
    rows: Rows,
    groups: int = 1,
) -> list[torch.Tensor]:
    """Queries, keys (both normed and turned) and values of a share.

    By groups of heads, `[groups, rows, heads of one, head width]`.
    """
    attn, count = block.attn1, hidden.shape[1]
    once = rows.count(count) == 1
    linears = [opened(linear, once=once) for linear in (attn.to_q, attn.to_k, attn.to_v)]
    heads = attn.heads // groups
    shape = (groups, count, heads, hidden.shape[2] // attn.heads)
    query, key, value = made = [hidden.new_empty(shape) for _ in linears]

    def fill(out: torch.Tensor, part: slice, x: torch.Tensor, *, turned: bool) -> None:
        by_head = heads_of(attn, x)
        for group in range(groups):
            chunk, place = (
                by_head[:, :, group * heads :][:, :, :heads],
                out[group : group + 1, part],
            )
            if turned:
                rope.turned(chunk, part, out=place)
            else:
                place.copy_(chunk)

    for part in rows.chunks(count):
        normed = modulated(block.norm1, hidden[:, part], scaled, part, 0)
        fill(query, part, attn.norm_q(linears[0](normed)), turned=True)
        fill(key, part, attn.norm_k(linears[1](normed)), turned=True)
        fill(value, part, linears[2](normed), turned=False)
    return made


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
    scaled = head_scales(module, time, index)
    whole = hidden.new_empty(hidden.shape[0], share.tokens, module.proj_out.out_features)
    fill_patches(module, hidden, scaled, rows, out=whole[:, share.own])
    share.gather(whole)
    return unpatchify(module, whole, latent_shape)
