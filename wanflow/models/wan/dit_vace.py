"""VACE's part of Wan's transformer: a second row of blocks, whose hints the first one is given.

Drives `diffusers.WanVACETransformer3DModel`'s own submodules (diffusers 0.42,
`models/transformers/transformer_wan_vace.py`) in another order: upstream runs all of VACE's blocks
first and holds every hint. They read what the patch embedding made and no block's output, so each
can run right after the block that its hint is added to, for the same bits:

    hidden   embed --+--- block 0 --+------ block 1 --- ..
    control    `- begin --- vace 0 -'- hint 0 --- ..
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch

from wanflow.models.segments.discover import Segmentation, discover
from wanflow.models.wan import dit
from wanflow.models.wan.dit_rows import Rows, patches

LAYERS = "vace_blocks"
_BEGIN = "proj_in"  # of the first of them
_IN = "in"  # the segment of all that runs before the blocks

Groups = Mapping[str, tuple[str, ...]]


def walk(module: Any) -> torch.Tensor:
    """Run all of it once on a few zeros, to see what is used; the order does not matter."""
    config = module.config
    latents = torch.zeros(1, config.in_channels, *config.patch_size)
    control = torch.zeros(1, config.vace_in_channels, *config.patch_size)
    rotary = dit.rotary_tables(module, latents, latents.device)
    text = torch.zeros(1, dit.TEXT_TOKENS, config.text_dim)
    embedded = dit.embed(module, latents, torch.zeros(1, dtype=torch.int64), text)
    hidden, context, modulation = embedded.hidden, embedded.context, embedded.modulation
    state = begin(module, control, hidden)
    for beside in module.vace_blocks:
        state = dit.in_parts(beside, state, context, modulation, rotary)
        hidden = hinted(beside, hidden, state, 1.0)
    for element in module.blocks:
        hidden = dit.block(element, hidden, context, modulation, rotary)
    return dit.head(module, hidden, embedded.time, tuple(latents.shape))


def segmentation(module: Any) -> Segmentation:
    """Find the segments, in the order above; what begins the control is one with the embeddings."""
    # Of VACE's blocks all are walked through: the first one is not like the others.
    known = discover(module, walk, (dit.LAYERS,))
    begins = {n for n, _ in module.named_parameters() if n.startswith(f"{LAYERS}.0.{_BEGIN}.")}
    segments = _moved(known.segments, begins, _IN)
    parts = {name: _moved(pieces, begins, "") for name, pieces in known.parts.items()}
    if _IN in parts:
        parts[_IN] = _moved(known.parts[_IN], begins, next(reversed(parts[_IN])))
    return Segmentation({name: segments[name] for name in _order(module)}, parts)


def _moved(groups: Groups, names: Collection[str], to: str) -> dict[str, tuple[str, ...]]:
    """Take *names* out of the groups that they are in, and put them into another."""
    left = {group: tuple(n for n in had if n not in names) for group, had in groups.items()}
    return {group: (*had, *names) if group == to else had for group, had in left.items() if had}


def _order(module: Any) -> Iterator[str]:
    """The segments as they are used: each block of VACE behind the one that it gives a hint."""
    yield _IN
    for index in range(len(module.blocks)):
        yield f"block.{index}"
        if (number := number_at(module, index)) is not None:
            yield f"vace.{number}"
    yield "head"


def number_at(module: Any, index: int) -> int | None:
    """Which of VACE's blocks stands beside a block; None for none, or a model without."""
    layers: list[int] = getattr(module.config, "vace_layers", None) or []
    return layers.index(index) if index in layers else None


def begin(module: Any, control: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Make the state `[B, tokens, width]` that VACE's blocks work on.

    *control* is `[B, C, F, h, w]`, *hidden* what the patch embedding made.
    """
    embedding = module.vace_patch_embedding
    state = embedding(control.to(embedding.weight.dtype)).flatten(2).transpose(1, 2).contiguous()
    return torch.as_tensor(module.vace_blocks[0].proj_in(state) + hidden)


def begin_by_rows(
    module: Any,
    control: torch.Tensor,
    hidden: torch.Tensor,
    rows: Rows,
    own: slice | None = None,
) -> torch.Tensor:
    """Make the same a chunk of rows at a time; *own* are those of *hidden*, None for all."""
    embedding = module.vace_patch_embedding
    state = patches(embedding, control.to(embedding.weight.dtype), rows, own)
    for part in rows.wide(state.shape[1]).chunks(state.shape[1]):
        x = state[:, part]
        x.copy_(module.vace_blocks[0].proj_in(x).add_(hidden[:, part]))
    return state


def hinted(beside: Any, hidden: torch.Tensor, state: torch.Tensor, scale: float) -> torch.Tensor:
    """Add a block's hint to the hidden state."""
    return torch.as_tensor(hidden + beside.proj_out(state) * scale)


def hint_by_rows(
    beside: Any, hidden: torch.Tensor, state: torch.Tensor, scale: float, rows: Rows
) -> None:
    """Add a block's hint to the hidden state, in place."""
    for part in rows.wide(hidden.shape[1]).chunks(hidden.shape[1]):
        x = hidden[:, part]
        x += beside.proj_out(state[:, part]).mul_(scale)
