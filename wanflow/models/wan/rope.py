"""Wan's rotary embedding from three short tables: the rows of a chunk are gathered when needed.

Upstream's table has a row for each token, of which every number is there twice, in fp32: as large
as an eighth of a 1.3B hidden state.
"""

from __future__ import annotations

from typing import Any

import attrs
import torch


@attrs.frozen
class Grid:
    """Patches along time, height and width; a token's number counts width first."""

    frames: int
    height: int
    width: int

    @classmethod
    def of(cls, module: Any, latent_shape: tuple[int, ...]) -> Grid:
        """The grid of latents `[B, C, F, H, W]`."""
        sizes = zip(latent_shape[2:], module.config.patch_size, strict=True)
        return cls(*(size // patch for size, patch in sizes))

    @property
    def tokens(self) -> int:
        """How many there are."""
        return self.frames * self.height * self.width

    def places(self, device: torch.device) -> torch.Tensor:
        """Where each token lies: its frame, row and column, `[3, tokens]` int32."""
        sides = [torch.arange(side, device=device) for side in attrs.astuple(self)]
        grid = torch.meshgrid(*sides, indexing="ij")
        return torch.stack(grid).flatten(1).to(torch.int32)


@attrs.frozen
class Rope:
    """Turns chunks by *table* `[places, half a head, cosine and sine]`, fp32.

    Its columns are for time, height and width; *places* is where the tokens lie, `[3, tokens]`.
    """

    table: torch.Tensor
    places: torch.Tensor

    def turned(self, x: torch.Tensor, part: slice, out: torch.Tensor | None = None) -> torch.Tensor:
        """Turn a chunk `[B, rows, heads, head width]`, into *out* where it is given."""
        cos, sin = self._rows(part).unbind(-1)
        # The order of upstream's processor: fp32 products, rounded once.
        first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
        result = torch.empty_like(x) if out is None else out
        even, odd = result.unflatten(-1, (-1, 2)).unbind(-1)
        even.copy_((first * cos).sub_(second * sin))
        odd.copy_((first * sin).add_(second * cos))
        return result

    def all(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of every token, `[tokens, half a head]`."""
        cos, sin = self._rows(slice(None))[0, :, 0].unbind(-1)
        return cos, sin

    def _rows(self, part: slice) -> torch.Tensor:
        """Cosines and sines `[1, rows, 1, half a head, 2]`."""
        half = self.table.shape[1]
        axis = 2 * half // 6  # upstream: height and width have a third each, rounded down
        columns = self.table.split([half - 2 * axis, axis, axis], dim=1)
        places = self.places[:, part].unbind()
        rows = [own.index_select(0, place) for own, place in zip(columns, places, strict=True)]
        return torch.cat(rows, dim=1)[None, :, None]


@attrs.frozen
class WholeRope:
    """A row a token, `[tokens, head width]` fp32, for kernels that swap the halves of a pair.

    *sin* has the sign with which a number's other half is added to it.
    """

    cos: torch.Tensor
    sin: torch.Tensor

    @classmethod
    def of(cls, rope: Rope) -> WholeRope:
        """Spread the short tables out."""
        cos, sin = rope.all()
        return cls(cos.repeat_interleave(2, dim=1), torch.stack((-sin, sin), dim=-1).flatten(1))

    def rows(self, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Give a chunk's."""
        return self.cos[part], self.sin[part]


def make_rope(module: Any, grid: Grid, device: torch.device) -> Rope:
    """Make the tables, of as many places as the longest side has.

    The module's own are on the meta device, hence a new instance of its class.
    """
    kind, config = type(module.rope), module.config
    rope = kind(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
    count = max(attrs.astuple(grid))
    # Upstream has every number twice, for the two halves of a pair.
    pair = rope.freqs_cos[:count, 0::2], rope.freqs_sin[:count, 1::2]
    return Rope(torch.stack(pair, dim=-1).to(device), grid.places(device))
