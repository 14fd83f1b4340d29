"""One file of a LoRA: its tensors, grouped by what they are of, no number read but alphas."""

from __future__ import annotations

import functools
import json
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import attrs
import torch

from wanflow.errors import WeightsError
from wanflow.files.cache import digest
from wanflow.models.adapters.suffixes import told
from wanflow.models.weights.checkpoint import Checkpoint
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.file_kind import index_file

_METADATA = "lora_adapter_metadata"  # of files that diffusers wrote


@attrs.frozen
class LoraFile:
    """The tensors of a LoRA: `groups` by a path as the file has it and by role (`suffixes.py`).

    `unknown` are the names of tensors that are of no kind.
    """

    path: Path
    checkpoint: Checkpoint
    groups: Mapping[str, Mapping[str, str]]
    unknown: tuple[str, ...]
    config: Mapping[str, object] = attrs.field(factory=dict)  # peft's, by diffusers

    def entry(self, name: str) -> Entry:
        """Where one of its tensors lies."""
        return self.checkpoint.entries[name]

    @functools.cached_property
    def layout(self) -> str:
        """What decides the costs of what it changes: names, dtypes and shapes."""
        rows = [[n, e.dtype_name, e.shape] for n, e in sorted(self.checkpoint.entries.items())]
        return digest(rows).hex()[:16]

    @property
    def nbytes(self) -> int:
        """Bytes of all of its tensors."""
        return sum(entry.nbytes for entry in self.checkpoint.entries.values())

    def number(self, name: str) -> float:
        """Read a tensor of one number; WeightsError for another."""
        entry = self.entry(name)
        if math.prod(entry.shape) != 1 or entry.foreign_dtype or entry.dtype.is_complex:
            raise WeightsError(
                f"{self.path}: tensor {name!r} is {list(entry.shape)} of {entry.dtype_name}, not "
                "one number",
                code="wrong-shape",
            )
        target = torch.empty(entry.shape, dtype=entry.dtype)
        self.checkpoint.read_into(name, target, None)
        value = float(target.item())
        if not math.isfinite(value):
            raise WeightsError(f"{self.path}: tensor {name!r} is {value}", code="not-finite")
        return value


def open_lora(path: Path) -> LoraFile:
    """Index a LoRA's file; WeightsError where it can't be read, or is none."""
    if not path.exists():
        raise WeightsError(f"{path}: no such LoRA file", code="missing-weights")
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder; a LoRA is one file", code="missing-weights")
    entries = index_file(path)
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    unknown = []
    for name in entries:
        if (found := told(name)) is None:
            unknown.append(name)
            continue
        module, role = found
        if role in groups[module]:
            raise WeightsError(
                f"{path}: tensors {groups[module][role]!r} and {name!r} are the same of {module!r}",
                code="same-tensor",
            )
        groups[module][role] = name
    if not groups:
        few = ", ".join(unknown[:3]) or "nothing"
        raise WeightsError(
            f"{path}: is no LoRA: none of its {len(entries)} tensors changes another ({few})",
            hint="whole models are given by --weights",
            code="no-lora",
        )
    checkpoint = Checkpoint(path, entries)
    return LoraFile(path, checkpoint, dict(groups), tuple(unknown), _config(path))


def _config(path: Path) -> Mapping[str, object]:
    """What diffusers says of the adapter in the file's metadata, or nothing.

    https://github.com/huggingface/diffusers, loaders/lora_base.py: `LORA_ADAPTER_METADATA_KEY`.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                return {}  # no safetensors
            metadata = json.loads(file.read(length)).get("__metadata__") or {}
        config = json.loads(metadata.get(_METADATA, "{}"))
    except OSError as error:  # without it the adapter would be another one
        raise WeightsError(
            f"{path}: {error.strerror or error}", code="unreadable-weights"
        ) from None
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}
    if not isinstance(config, dict):
        return {}
    return {name.removeprefix("transformer."): value for name, value in config.items()}
