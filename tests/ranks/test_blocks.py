"""Self-attention that ranks share: the bits of one device, gathered or by heads."""

from __future__ import annotations

import pytest
import torch

from tests.ranks.threads import together
from wanflow.graph.configs import known_config
from wanflow.models.segments.build import allowed, transformer_class
from wanflow.models.wan import dit_ranks, dit_rows
from wanflow.models.wan.dit_ranks import RowShare
from wanflow.models.wan.dit_rows import Rows
from wanflow.models.wan.rope import Grid, Rope, make_rope

FRAMES, HEIGHT, WIDTH = 5, 12, 16  # of latents


@pytest.fixture(scope="module")
def transformer():
    """The tiny one, weights from a seed."""
    fields = allowed("transformer", known_config("wan-tiny", "transformer"), "")
    torch.manual_seed(4)
    return transformer_class(fields)(**fields).eval()


@pytest.mark.parametrize("by_heads", [False, True], ids=["rows", "ulysses"])
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("size", [1 << 20, 64], ids=["all", "chunks"])
def test_same_rows_as_one_device(transformer, by_heads, count, size) -> None:
    """Each rank's rows are those of the whole, however many are taken at a time."""
    grid = Grid.of(transformer, (1, 16, FRAMES, HEIGHT, WIDTH))
    rope = make_rope(transformer, grid, torch.device("cpu"))
    block = transformer.blocks[0]
    generator = torch.Generator().manual_seed(1)
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    before = torch.randn(1, grid.tokens, width, generator=generator)
    modulation = torch.randn(1, 6, width, generator=generator)
    whole, rows = before.clone(), Rows(size)

    def attend(index, exchange):
        share = RowShare(grid.tokens, tuple(range(count)), index, exchange, by_heads)
        own = before[:, share.own].clone()
        turning = Rope(rope.table, rope.places[:, share.own])
        with torch.no_grad():
            scaled = dit_rows.scales(block, modulation)
            dit_ranks.attend(block, own, scaled, turning, rows, share)
        return own

    with torch.no_grad():
        dit_rows.attend(block, whole, dit_rows.scales(block, modulation), rope, Rows(1 << 20))

    assert torch.equal(torch.cat(together(count, attend), dim=1), whole)
