"""Weights that are packed as they are read: what is in the file is floats."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch

from wanflow.models.packing.form import PACKED
from wanflow.models.packing.scaled import SCALE
from wanflow.models.weights.checkpoint import Checkpoint
from wanflow.models.weights.packed_rows import packed_rows


@attrs.define
class PackingSource:
    """A checkpoint some of whose weights are packed on their way: *made* has the kind of each.

    The scales of a weight are found with its numbers, and kept until they are asked for.
    """

    checkpoint: Checkpoint
    made: Mapping[str, str]
    _scales: dict[str, torch.Tensor] = attrs.field(factory=dict, init=False)

    def read_into(self, name: str, target: torch.Tensor, staging: torch.Tensor | None) -> None:
        """Read a tensor, or a piece of a weight that is packed here."""
        path, _, leaf = name.rpartition(".")
        weight = f"{path}.weight"
        if weight not in self.made or leaf not in (PACKED, SCALE):
            self.checkpoint.read_into(name, target, staging)
        elif leaf == PACKED:
            self._scales[weight] = self._pack_into(weight, target)
        else:
            scale = self._scales.pop(weight, None)
            if scale is None:
                rows = target.shape[0]
                width = self.checkpoint.entries[weight].shape[1]
                numbers = torch.empty(rows, width, dtype=torch.int8)
                scale = self._pack_into(weight, numbers)
            target.copy_(scale)

    def read_each_into(
        self, targets: Mapping[str, torch.Tensor], staging: torch.Tensor | None
    ) -> None:
        """Read tensors; what is not packed here at once."""
        packed = {name for name in targets if f"{name.rpartition('.')[0]}.weight" in self.made}
        for name in targets:
            if name in packed:
                self.read_into(name, targets[name], staging)
        others = {name: target for name, target in targets.items() if name not in packed}
        self.checkpoint.read_each_into(others, staging)

    def read_rows_into(
        self, name: str, rows: list[int], target: torch.Tensor, staging: torch.Tensor | None
    ) -> None:
        """Read rows of a matrix, which is never packed here."""
        self.checkpoint.read_rows_into(name, rows, target, staging)

    def _pack_into(self, weight: str, target: torch.Tensor) -> torch.Tensor:
        """Pack the numbers of a weight into *target* `[out, in]`; give its scales `[out, 1]`."""
        entry = self.checkpoint.entries[weight]
        scales = torch.empty(len(target), 1)
        for first, pieces in packed_rows(entry.stored_as or weight, entry, self.made[weight]):
            part = slice(first, first + len(pieces[PACKED]))
            target[part].copy_(pieces[PACKED])
            scales[part].copy_(pieces[SCALE])
        return scales
