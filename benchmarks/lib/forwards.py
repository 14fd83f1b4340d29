"""One forward of a transformer with nothing around it: diffusers' own, and by rows."""

from __future__ import annotations

from typing import Any

import attrs
import torch

from wanflow.models.wan import dit, dit_compiled, dit_heads, dit_rows
from wanflow.models.wan.dit_rows import Rows
from wanflow.models.wan.rope import Grid, WholeRope, make_rope

GROUPS = 8


@attrs.frozen
class Inputs:
    """What a forward takes. With *index* `[B, tokens]` a token has the timestep that it names."""

    latents: torch.Tensor
    timestep: torch.Tensor
    text: torch.Tensor
    index: torch.Tensor | None = None


def plain(module: Any, given: Inputs) -> torch.Tensor:
    """Run the module as it comes; a timestep a token is embedded for each token."""
    at = given.timestep if given.index is None else given.timestep[given.index]
    return torch.as_tensor(module(given.latents, at, given.text, return_dict=False)[0])


def staged(module: Any, given: Inputs) -> torch.Tensor:
    """Run it by its parts, the whole sequence at once, as `denoise` does at `rows=all`."""
    shape = tuple(given.latents.shape)
    rotary = dit.rotary_tables(module, given.latents, given.latents.device)
    made = dit.embed(module, given.latents, given.timestep, given.text)
    hidden = made.hidden
    for block in module.blocks:
        hidden = dit.block(block, hidden, made.context, made.modulation, rotary)
    return dit.head(module, hidden, made.time, shape)


def by_rows(
    module: Any, given: Inputs, size: int, *, grouped: bool = False, compiled: bool = False
) -> torch.Tensor:
    """Run it *size* rows at a time, the heads in groups or with compiled kernels if asked for."""
    forms: Any = dit_compiled if compiled else dit_rows
    rows, shape = Rows(size), tuple(given.latents.shape)
    rope = make_rope(module, Grid.of(module, shape), given.latents.device)
    turns = WholeRope.of(rope) if compiled else rope
    made = dit_rows.embed(module, given.latents, given.timestep, given.text, rows)
    hidden = made.hidden
    for block in module.blocks:
        scaled = dit_rows.scales(block, made.modulation, given.index)
        if grouped:
            dit_heads.attend(block, hidden, scaled, rope, rows, GROUPS)
        else:
            forms.attend(block, hidden, scaled, turns, rows)
        forms.cross(block, hidden, made.context, rows)
        forms.feed(block, hidden, scaled, rows)
    return dit_rows.head(module, hidden, made.time, shape, rows, given.index)
