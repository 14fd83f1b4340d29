"""LoRA files in the smallest shapes, and what a model is with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from wanflow.graph.source import Mark
from wanflow.graph.spec import ModelSpec
from wanflow.models.adapters.lora_file import open_lora
from wanflow.models.adapters.of_model import Lora
from wanflow.models.bound import LocatedModel, bind_model
from wanflow.models.segments.build import build

RANK = 4
FIELDS = {
    "num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 32, "freq_dim": 32,
    "ffn_dim": 64, "num_layers": 2, "patch_size": [1, 2, 2], "in_channels": 16, "out_channels": 16,
    "rope_max_seq_len": 64,
}  # fmt: skip
KINDS: Mapping[str, Mapping[str, Any]] = {
    "t2v": FIELDS,
    "i2v": {**FIELDS, "in_channels": 36, "image_dim": 20, "added_kv_proj_dim": 24},
    "vace": {**FIELDS, "vace_layers": [0, 1], "vace_in_channels": 96},
}


def random(*shape: int) -> torch.Tensor:
    """Numbers whose products are about one; the same for one shape."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator) / max(shape[-1], 1) ** 0.5


def shapes(kind: str) -> dict[str, tuple[int, ...]]:
    """The parameters of a transformer."""
    module = build("transformer", KINDS[kind])
    return {name: tuple(p.shape) for name, p in module.named_parameters()}


def save(tensors: Mapping[str, torch.Tensor], path: Path, **metadata: str) -> Path:
    """Write a LoRA's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, metadata or None)
    return path


def weights(kind: str, folder: Path) -> dict[str, torch.Tensor]:
    """Write a transformer's own weights; give them."""
    tensors = {name: random(*shape) for name, shape in shapes(kind).items()}
    save(tensors, folder / "model.safetensors")
    return tensors


def located(
    kind: str, folder: Path | None, loras: Sequence[tuple[Path, float]], **options: Any
) -> LocatedModel:
    """A transformer with LoRAs, each a file and a weight."""
    spec = ModelSpec(name="dit", part="transformer", fields=KINDS[kind], mark=Mark(1, 1))
    partial = options.pop("partial", False)
    files = [Lora(open_lora(path), weight, partial=partial) for path, weight in loras]
    precision = options.pop("precision", "fp32")
    return bind_model(spec, precision, folder, Path("graph.yaml"), loras=files, **options)


def bound(found: LocatedModel) -> Any:
    """The module with all of its weights read."""
    model, source = found.model, found.source
    assert source is not None
    staging = torch.empty(1 << 20, dtype=torch.uint8)
    for name in model.segmentation.segments:
        tensors = {}
        for spec in model.segments[name].tensors:
            tensors[spec.name] = torch.empty(spec.shape, dtype=spec.dtype)
            source.read_into(spec.name, tensors[spec.name], staging)
        model.bind(name, tensors)
    return model.module


@torch.no_grad()
def effective(module: Any, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """What parameters of the plain module are by what comes out of the one with LoRAs."""
    found = {}
    for name in names:
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        if not hasattr(owner, "opened"):
            found[name] = owner.get_parameter(leaf)
            continue
        bias = owner(torch.zeros(owner.in_features))
        rows = owner(torch.eye(owner.in_features)) - bias
        found[name] = bias if leaf == "bias" else rows.T
    return found
