"""Weights with adapters: what is a LoRA's comes from its file, what it changes is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs
import torch

from wanflow.models.adapters.at_reading import ReadChange
from wanflow.models.adapters.fitting import AdapterPiece


class Weights(Protocol):
    """What the model's own tensors are read from."""

    def read_into(self, name: str, target: torch.Tensor, staging: torch.Tensor | None) -> None:
        """Read a whole tensor."""

    def read_each_into(
        self, targets: Mapping[str, torch.Tensor], staging: torch.Tensor | None
    ) -> None:
        """Read whole tensors by name."""

    def read_rows_into(
        self, name: str, rows: list[int], target: torch.Tensor, staging: torch.Tensor | None
    ) -> None:
        """Read rows of a matrix."""


@attrs.frozen
class AdaptedSource:
    """Weights whose parameters *changes* are changed, beside those of the adapters, *pieces*."""

    weights: Weights
    pieces: Mapping[str, AdapterPiece]
    changes: Mapping[str, Sequence[ReadChange]]

    def read_into(self, name: str, target: torch.Tensor, staging: torch.Tensor | None) -> None:
        """Read a tensor, whosever it is."""
        if name in self.pieces:
            _read(self.pieces[name], target, staging)
            return
        self.weights.read_into(name, target, staging)
        for change in self.changes.get(name, ()):
            change.add_to(target)

    def read_each_into(
        self, targets: Mapping[str, torch.Tensor], staging: torch.Tensor | None
    ) -> None:
        """Read tensors; what no adapter changes at once."""
        own = {name for name in targets if name in self.pieces or name in self.changes}
        for name in targets:
            if name in own:
                self.read_into(name, targets[name], staging)
        others = {name: target for name, target in targets.items() if name not in own}
        self.weights.read_each_into(others, staging)

    def read_rows_into(
        self, name: str, rows: list[int], target: torch.Tensor, staging: torch.Tensor | None
    ) -> None:
        """Read rows of a matrix, which no adapter changes."""
        self.weights.read_rows_into(name, rows, target, staging)


def _read(piece: AdapterPiece, target: torch.Tensor, staging: torch.Tensor | None) -> None:
    """Read a tensor of a LoRA; it is multiplied in the dtype of its file, as diffusers does."""
    entry, flat = piece.lora.entry(piece.name), target.reshape(-1)
    if staging is None:
        raise AssertionError(f"{piece.name} without a staging buffer")
    chunk = staging.view(entry.dtype)
    for first in range(0, flat.numel(), chunk.numel()):
        part = flat[first : first + chunk.numel()]
        there = chunk[: part.numel()]
        piece.lora.checkpoint.read_part_into(piece.name, first, there)
        if piece.factor != 1 and entry.dtype.itemsize > 1:
            there.mul_(piece.factor)
        part.copy_(there)
        if piece.factor != 1 and entry.dtype.itemsize == 1:
            part.mul_(piece.factor)  # eight bits can't be multiplied
