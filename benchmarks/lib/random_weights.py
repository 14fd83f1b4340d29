"""Random weights out of one pool of noise, by name: the same for whoever reads them, on no disk."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch

from scripts.make_checkpoint import Tensor, noise_pool, pieces
from wanflow.models.segments.cut import dtype_of


@attrs.frozen
class RandomWeights:
    """Tensors of any name and shape, as fast as memory is. Implements streamer.WeightSource."""

    pool: torch.Tensor = attrs.field(factory=lambda: noise_pool(0), repr=False)

    def read_into(
        self, name: str, target: torch.Tensor, staging: torch.Tensor | None = None
    ) -> None:
        """Fill a contiguous tensor."""
        del staging
        flat, done = target.view(-1).view(torch.uint8), 0
        for piece in self._pieces(name, target.shape, target.dtype):
            flat[done : done + len(piece)] = torch.frombuffer(piece, dtype=torch.uint8)
            done += len(piece)

    def read_each_into(
        self, targets: Mapping[str, torch.Tensor], staging: torch.Tensor | None
    ) -> None:
        """Fill several."""
        for name, target in targets.items():
            self.read_into(name, target, staging)

    def read_rows_into(
        self, name: str, rows: list[int], target: torch.Tensor, staging: torch.Tensor | None = None
    ) -> None:
        """Fill *target* with rows of a matrix; what `read_into` gives of the whole is the same.

        The matrix may be of any height: its rows go round the pool, whatever comes after them.
        """
        del staging
        width = target.shape[1]
        whole = (max(len(self.pool) // width, *rows) + 1, width)
        first = next(self._pieces(name, torch.Size(whole), target.dtype))
        values = torch.frombuffer(first, dtype=target.dtype)
        at = (torch.tensor(rows)[:, None] * width + torch.arange(width)) % len(values)
        torch.index_select(values, 0, at.view(-1), out=target.view(-1))

    def fill(self, module: torch.nn.Module, precision: str) -> None:
        """Give a meta module weights in the dtypes that upstream loads it in, on the CPU."""
        made: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
        for path, parameter in [*module.named_parameters(remove_duplicate=False)]:
            if parameter not in made:
                weight = torch.empty(parameter.shape, dtype=dtype_of(module, path, precision))
                self.read_into(path, weight)
                made[parameter] = torch.nn.Parameter(weight, requires_grad=False)
            owner, _, leaf = path.rpartition(".")
            setattr(module.get_submodule(owner), leaf, made[parameter])
        if hasattr(module, "rope"):
            module.rope = _rotary(module)

    def _pieces(self, name: str, shape: torch.Size, dtype: torch.dtype) -> Iterator[memoryview]:
        tensor = Tensor(name, tuple(shape), dtype)
        return pieces(tensor, self.pool, zlib.crc32(name.encode()))


def _rotary(module: Any) -> Any:
    """Make a transformer's rotary tables, which are no weights and were left on meta."""
    config = module.config
    return type(module.rope)(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
