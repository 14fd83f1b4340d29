"""Wan's transformer a chunk of rows at a time: the same sums, a fraction of the memory.

Drives the submodules of a `WanTransformerBlock`; a packed Linear is opened once for all chunks. S
being the bytes of one hidden state, a block takes three S and some chunks:

    attend  first pass   norm1, to_k, to_v, rope   every chunk -> keys, values        S + 2 S
            second pass  norm1, to_q, rope, attention to all keys, to_out, gate   -> hidden state
    cross                norm2, to_q, attention to the context, to_out            -> hidden state
    feed                 norm3, ffn, gate                                         -> hidden state

The hidden state `[B, tokens, width]` is updated in place. Nothing but keys and values is there for
all tokens at once: rotary rows are gathered from a small table, and where a token has a timestep of
its own its modulation is gathered from that of the distinct timesteps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import attrs
import torch

from wanflow.models.packing.linear import Apply, is_opened, opened
from wanflow.models.trees.attention import dispatch, heads_of
from wanflow.models.wan.dit import TEXT_TOKENS, Embedded, unpatchify
from wanflow.models.wan.rope import Rope
from wanflow.scheduler.profile.folded_loops import passes

# Rows that CPU attention takes at a time: chunks begin where one of its blocks would.
_KERNEL_ROWS = 256
# A row of the feed-forward takes up to 18 times its bytes in the hidden state. All rows' keys and
# values, which are not there then, took twice those.
_WIDE_SHARE = 10


@attrs.frozen
class Rows:
    """How many rows a chunk has at least: `size` for all but a sequence that is shorter.

    `wide` chunks are for what runs when keys and values are not there: as much of the sequence as
    takes no more room than those did.
    """

    size: int

    def wide(self, tokens: int) -> Rows:
        """Up to four times as many rows, a tenth of the sequence at the most."""
        share = tokens // _WIDE_SHARE // _KERNEL_ROWS * _KERNEL_ROWS
        return Rows(max(self.size, min(4 * self.size, share)))

    @property
    def _block(self) -> int:
        return math.gcd(self.size, _KERNEL_ROWS)

    def count(self, tokens: int) -> int:
        """How many chunks there are."""
        return max(math.ceil(tokens / self._block) * self._block // self.size, 1)

    def chunks(self, tokens: int) -> Iterator[slice]:
        """Cut the sequence evenly; every chunk but the last is whole blocks of a kernel."""
        block = self._block
        blocks, count = math.ceil(tokens / block), self.count(tokens)
        size, longer = divmod(blocks, count)
        ends = [(size * number + min(number, longer)) * block for number in range(count)]
        return passes([slice(*ends) for ends in itertools.pairwise([*ends, tokens])])


@attrs.frozen
class Scales:
    """Shifts, scales plus one, and gates `[N, 2 or 6, width]`, fp32: a row a sample or a timestep.

    With *index* `[B, tokens]` a token takes the row that it names.
    """

    table: torch.Tensor
    index: torch.Tensor | None = None

    @classmethod
    def of_sum(
        cls, table: torch.Tensor, scales: tuple[int, ...], index: torch.Tensor | None
    ) -> Scales:
        """Take a fresh table, of which the rows *scales* are scales."""
        for number in scales:
            table[:, number] += 1
        return cls(table, index)

    def of(self, number: int, part: slice) -> torch.Tensor:
        """One of them for a chunk, `[B, 1 or rows, width]`."""
        if self.index is None:
            return self.table[:, number : number + 1]
        return self.table[:, number][self.index[:, part]]


def scales(block: Any, modulation: torch.Tensor, index: torch.Tensor | None = None) -> Scales:
    """Add a block's own table to the modulation `[N, 6, width]` of the timesteps."""
    return Scales.of_sum(block.scale_shift_table + modulation.float(), (1, 4), index)


def embed(
    module: Any,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    text: torch.Tensor,
    rows: Rows,
    image: torch.Tensor | None = None,
    own: slice | None = None,
) -> Embedded:
    """Embed patches by latent frames, times and text; *image* `[B, 257, image width]` goes first.

    *timestep* `[B]`, or `[N]` distinct ones that an index spreads over the tokens. *own* are the
    rows that are wanted, None for all.
    """
    dtype = module.patch_embedding.weight.dtype
    time, modulation, context, seen = module.condition_embedder(
        timestep, text.to(dtype), None if image is None else image.to(dtype)
    )
    if seen is not None:
        context = torch.cat([seen, context], dim=1)
    hidden = patches(module.patch_embedding, latents.to(dtype), rows, own)
    return Embedded(hidden, time, modulation.unflatten(1, (6, -1)), context)


def patches(
    embedding: Any, latents: torch.Tensor, rows: Rows, own: slice | None = None
) -> torch.Tensor:
    """Embed patches `[B, tokens, width]` by latent frames, as many as *rows* has of them.

    Of *own* rows, if they are given, the frames that they lie in are embedded.
    """
    patch_t, patch_h, patch_w = embedding.kernel_size
    batch, _, frames, height, width = latents.shape
    per_frame = (height // patch_h) * (width // patch_w)
    if own is not None:
        first, last = own.start // per_frame, -(-own.stop // per_frame)
        around = patches(embedding, latents[:, :, first * patch_t : last * patch_t], rows)
        wanted = slice(own.start - first * per_frame, own.stop - first * per_frame)
        return around if wanted == slice(0, around.shape[1]) else around[:, wanted].clone()
    step = patch_t * max(rows.size // per_frame, 1)
    hidden = latents.new_empty(batch, frames // patch_t * per_frame, embedding.out_channels)
    starts = range(0, frames, step)
    for part in passes([slice(start, min(start + step, frames)) for start in starts]):
        columns = embedding(latents[:, :, part]).flatten(2)
        first = part.start // patch_t * per_frame
        hidden[:, first : first + columns.shape[2]] = columns.transpose(1, 2)
    return hidden


def attend(block: Any, hidden: torch.Tensor, scaled: Scales, rope: Rope, rows: Rows) -> None:
    """Run a block's self-attention on *hidden*, in place."""
    attn = block.attn1
    key, value = _keys_values(block, hidden, scaled, rope, rows)
    once = rows.count(hidden.shape[1]) == 1
    to_query, project = opened(attn.to_q, once=once), projection(attn, once=once)
    for part in rows.chunks(hidden.shape[1]):
        x = hidden[:, part]
        query = heads_of(attn, attn.norm_q(to_query(modulated(block.norm1, x, scaled, part, 0))))
        attended = dispatch(attn, rope.turned(query, part), key, value)
        add_gated(x, project(attended), scaled.of(2, part))


def _keys_values(
    block: Any, hidden: torch.Tensor, scaled: Scales, rope: Rope, rows: Rows
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys (normed, turned) and values of all tokens, `[B, tokens, heads, head width]`."""
    attn, pair = block.attn1, None
    once = rows.count(hidden.shape[1]) == 1
    to_key, to_value = opened(attn.to_k, once=once), opened(attn.to_v, once=once)
    for part in rows.chunks(hidden.shape[1]):
        normed = modulated(block.norm1, hidden[:, part], scaled, part, 0)
        chunk = heads_of(attn, attn.norm_k(to_key(normed)))
        if pair is None:
            shape = (*hidden.shape[:2], *chunk.shape[2:])
            pair = chunk.new_empty(shape), chunk.new_empty(shape)
        rope.turned(chunk, part, out=pair[0][:, part])
        pair[1][:, part] = heads_of(attn, to_value(normed))
    if pair is None:
        msg = "a hidden state without tokens"
        raise AssertionError(msg)
    return pair


def cross(block: Any, hidden: torch.Tensor, context: torch.Tensor, rows: Rows) -> None:
    """Run a block's cross-attention on *hidden*, in place.

    Where the block takes an image too, the context is its tokens and then 512 of text.
    """
    attn, image = block.attn2, None
    if attn.add_k_proj is not None:
        tokens = context.shape[1] - TEXT_TOKENS
        seen, context = context[:, :tokens], context[:, tokens:]
        added = attn.norm_added_k(attn.add_k_proj(seen)), attn.add_v_proj(seen)
        image = heads_of(attn, added[0]), heads_of(attn, added[1])
    key = heads_of(attn, attn.norm_k(attn.to_k(context)))
    value = heads_of(attn, attn.to_v(context))
    wide, tokens = rows.wide(hidden.shape[1]), hidden.shape[1]
    once = wide.count(tokens) == 1
    to_query, project = opened(attn.to_q, once=once), projection(attn, once=once)
    for part in wide.chunks(tokens):
        x = hidden[:, part]
        query = heads_of(attn, attn.norm_q(to_query(block.norm2(x.float()).type_as(x))))
        attended = dispatch(attn, query, key, value)
        if image is not None:
            attended = attended + dispatch(attn, query, *image)
        x += project(attended)


def feed(block: Any, hidden: torch.Tensor, scaled: Scales, rows: Rows) -> None:
    """Run a block's feed-forward on *hidden*, in place."""
    wide, tokens = rows.wide(hidden.shape[1]), hidden.shape[1]
    ffn = _ready(block.ffn, once=wide.count(tokens) == 1)
    for part in wide.chunks(tokens):
        x = hidden[:, part]
        output = ffn(modulated(block.norm3, x, scaled, part, 3))
        add_gated(x, output, scaled.of(5, part))


def _ready(ffn: Any, *, once: bool) -> Apply:
    """Make a feed-forward ready; with *once* a packed Linear is open only while it is applied."""
    inner, *dropouts, outer = ffn.net
    if once or not (is_opened(inner.proj) or is_opened(outer)):
        return ffn  # type: ignore[no-any-return]
    first, last = opened(inner.proj), opened(outer)

    def apply(x: torch.Tensor) -> torch.Tensor:
        x = inner.gelu(first(x))
        for dropout in dropouts:
            x = dropout(x)
        return last(x)

    return apply


def head(
    module: Any,
    hidden: torch.Tensor,
    time: torch.Tensor,
    latent_shape: tuple[int, ...],
    rows: Rows,
    index: torch.Tensor | None = None,
) -> torch.Tensor:
    """Norm, project and put the patches back: the prediction, shaped like the latents."""
    scaled = head_scales(module, time, index)
    patches = hidden.new_empty(*hidden.shape[:2], module.proj_out.out_features)
    fill_patches(module, hidden, scaled, rows, out=patches)
    return unpatchify(module, patches, latent_shape)


def head_scales(module: Any, time: torch.Tensor, index: torch.Tensor | None) -> Scales:
    """What the head's norm is scaled and shifted by."""
    return Scales.of_sum(module.scale_shift_table + time.unsqueeze(1), (1,), index)


def fill_patches(
    module: Any, hidden: torch.Tensor, scaled: Scales, rows: Rows, *, out: torch.Tensor
) -> None:
    """Norm and project *hidden* `[B, rows, width]` into *out* `[B, rows, a patch's numbers]`."""
    for part in rows.wide(hidden.shape[1]).chunks(hidden.shape[1]):
        normed = modulated(module.norm_out, hidden[:, part], scaled, part, 0)
        out[:, part] = module.proj_out(normed)


def add_attended(
    attn: Any, hidden: torch.Tensor, attended: torch.Tensor, scaled: Scales, rows: Rows
) -> None:
    """Project what was attended, `[B, rows, heads, head width]`, and add it to *hidden*."""
    count = hidden.shape[1]
    project = projection(attn, once=rows.count(count) == 1)
    for part in rows.chunks(count):
        add_gated(hidden[:, part], project(attended[:, part].flatten(2)), scaled.of(2, part))


def modulated(norm: Any, x: torch.Tensor, scaled: Scales, part: slice, first: int) -> torch.Tensor:
    """Norm a chunk in fp32, scale and shift it: shift is the row *first* of the scales."""
    normed: torch.Tensor = norm(x.float())
    return normed.mul_(scaled.of(first + 1, part)).add_(scaled.of(first, part)).type_as(x)


def add_gated(x: torch.Tensor, output: torch.Tensor, gate: torch.Tensor) -> None:
    """Add to a chunk of the hidden state, in place; the sum is made in fp32."""
    x.copy_((output * gate).add_(x))


def projection(attn: Any, *, once: bool = False) -> Apply:
    """Make what projects the attended ready."""
    linear, dropout = opened(attn.to_out[0], once=once), attn.to_out[1]
    return lambda attended: torch.as_tensor(dropout(linear(attended)))
