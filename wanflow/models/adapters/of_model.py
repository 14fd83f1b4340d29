"""All LoRAs of one model, in their order: put into its module, read, and told apart."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import torch

from wanflow.errors import WeightsError
from wanflow.models.adapters.at_reading import ReadChange
from wanflow.models.adapters.fitting import AdapterPiece, Fitted, fit
from wanflow.models.adapters.folded import folded
from wanflow.models.adapters.lora_file import LoraFile
from wanflow.models.adapters.names import known_in
from wanflow.models.packing.adapted import Adapter, adapt, adapters_of


@attrs.frozen
class Lora:
    """A LoRA that a model is run with.

    *partial*: what nothing takes is left out, and told. *optional*: it is not taken at all where
    that would be so.
    """

    file: LoraFile
    weight: float = 1.0
    partial: bool = False
    optional: bool = False

    @property
    def words(self) -> str:
        """How a person names it: the file's name and the weight."""
        return f"{self.file.path.name}@{self.weight:g}"


@attrs.frozen
class Adapters:
    """The LoRAs of a model, fitted to its module; `linears` are changed in the call."""

    loras: tuple[Lora, ...]
    fits: tuple[Fitted, ...]

    @functools.cached_property
    def linears(self) -> Mapping[str, list[tuple[str, Adapter]]]:
        """Changes by path of a Linear, those of the first LoRA first."""
        changes: dict[str, list[tuple[str, Adapter]]] = {}
        for each in self.fits:
            for path, own in each.linears.items():
                changes.setdefault(path, []).extend(own)
        return changes

    @functools.cached_property
    def pieces(self) -> Mapping[str, AdapterPiece]:
        """The parameters of the adapters, by name."""
        return {name: piece for each in self.fits for name, piece in each.pieces.items()}

    @functools.cached_property
    def read(self) -> Mapping[str, list[ReadChange]]:
        """What is added to parameters when they are read."""
        changes: dict[str, list[ReadChange]] = {}
        for each in self.fits:
            for name, own in each.read.items():
                changes.setdefault(name, []).extend(own)
        return changes

    def put_in(self, module: torch.nn.Module) -> Mapping[str, list[str]]:
        """Let the Linears be changed; give the parameters that come with each weight of them."""
        adapt(module, self.linears)
        return {path: adapters_of(module, path) for path in self.linears}

    def read_bytes(self, own: Mapping[str, int]) -> dict[str, int]:
        """What is read for the adapters and what they change; *own* are what these have by now."""
        sizes = {name: piece.lora.entry(piece.name).nbytes for name, piece in self.pieces.items()}
        for name, changes in self.read.items():
            sizes[name] = own[name] + sum(change.nbytes for change in changes)
        return sizes

    @property
    def notes(self) -> tuple[str, ...]:
        """What of each LoRA is left out."""
        return tuple(
            f"{lora.file.path.name}: left out: {folded(each.refused)}"
            for lora, each in zip(self.loras, self.fits, strict=True)
            if each.refused
        )


def adapters_in(module: torch.nn.Module, loras: Sequence[Lora], model: str) -> Adapters:
    """Fit LoRAs to a plain transformer; WeightsError lists what nothing takes of one."""
    known = known_in(module)
    taken: list[tuple[Lora, Fitted]] = []
    for lora in loras:
        each = fit(lora.file, known, lora.weight, len(taken))
        fits = bool(each.linears or each.read)
        if lora.optional and (not fits or (each.refused and not lora.partial)):
            continue
        if not fits:
            raise WeightsError(
                f"{lora.file.path}: fits nothing of model {model!r}: {folded(each.refused)}",
                hint=f"wanflow models inspect {lora.file.path} says what it is for",
                code="lora-keys",
            )
        if each.refused and not lora.partial:
            raise _refused(lora.file.path, each, model)
        taken.append((lora, each))
    return Adapters(tuple(lora for lora, _ in taken), tuple(each for _, each in taken))


def _refused(path: Path, made: Fitted, model: str) -> WeightsError:
    taken = len(made.pieces) + len(made.read)
    return WeightsError(
        f"{path}: {len(made.refused)} tensors change nothing of model {model!r}, {taken} do: "
        f"{folded(made.refused)}",
        hint=f"take a LoRA that was made for this model (wanflow models inspect {path}), or "
        "--lora-partial to run with the others",
        code="lora-keys",
    )
