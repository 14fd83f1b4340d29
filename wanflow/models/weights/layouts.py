"""Where a part's weights are in what people have on disk, and how they become one checkpoint.

    diffusers folder            official Wan2.1 folder                     a file by itself
    text_encoder/*.safetensors  models_t5_umt5-xxl-enc-bf16.pth            .safetensors, .pth
    transformer/*.safetensors   diffusion_pytorch_model*.safetensors
    vae/*.safetensors           Wan2.1_VAE.pth
    image_encoder/*             models_clip_open-clip-xlm-roberta-...pth

A *place* is a part's own folder, the official folder (of the DiT, which may lie in several files)
or a file. Whether the tensors in it have official names is seen from them, wherever they lie.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from wanflow.errors import WeightsError
from wanflow.models.weights.checkpoint import Checkpoint, Entry, index_safetensors, merged
from wanflow.models.weights.official_names import renamed
from wanflow.models.weights.torch_file import index_torch_file

_DIT = "diffusion_pytorch_model*.safetensors"
_CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14"
# By part, what comes first is taken: a safetensors file was made from the other.
OFFICIAL: Mapping[str, Sequence[str]] = {
    "text_encoder": ("models_t5_umt5-xxl-enc-*.safetensors", "models_t5_umt5-xxl-enc-*.pth"),
    "transformer": (_DIT,),
    "vae": ("Wan2.1_VAE.safetensors", "Wan2.1_VAE.pth"),
    "image_encoder": (f"{_CLIP}.safetensors", f"{_CLIP}.pth"),
}
PARTS = tuple(OFFICIAL)
# What single files with scaled fp8 weights have beside each of them, or once.
_SCALES = ("scaled_fp8", ".scale_weight", ".weight_scale", ".weight_scale_inv")
_INDEX_LIMIT_BYTES = 16 << 20


def find_part(path: Path, part: str) -> Path | None:
    """The place of a part in what *path* names; None when it is not there."""
    if path.is_file():
        return path
    if (path / part).is_dir() and any((path / part).glob("*.safetensors")):
        return path / part
    if path.name in PARTS:
        return path if path.name == part and any(path.glob("*.safetensors")) else None
    for pattern in OFFICIAL[part]:
        files = sorted(path.glob(pattern))
        if part == "transformer" and files:
            return path
        if len(files) > 1:
            raise WeightsError(
                f"{path}: {', '.join(file.name for file in files)} are all the {part}",
                hint="name the one to use: --weights MODEL=FILE",
                code="several-weights",
            )
        if files:
            return files[0]
    return None


def is_official_folder(place: Path) -> bool:
    """Whether a place is an official folder, which has its DiT in it beside everything else."""
    return place.is_dir() and place.name not in PARTS and any(place.glob(_DIT))


def open_part(part: str, place: Path) -> Checkpoint:
    """Index a part's files under diffusers' names; WeightsError names file and tensor."""
    files = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    if is_official_folder(place):
        files = sorted(place.glob(_DIT))
    if not files:
        raise WeightsError(
            f"{place}: no safetensors file there",
            hint="point --weights at a folder of diffusers or of Wan2.1, or at a file",
            code="missing-weights",
        )
    for index in sorted(place.glob("*.safetensors.index.json")):
        _check_shards(index, {file.name for file in files})
    entries = merged((file, _index(file)) for file in files)
    _check_not_scaled(entries)
    return Checkpoint(place, renamed(part, entries))


def _check_not_scaled(entries: Mapping[str, Entry]) -> None:
    """Weights that stand beside their scales are no weights by themselves."""
    for name, entry in entries.items():
        if name.endswith(_SCALES):
            raise WeightsError(
                f"{entry.path}: tensor {name!r} scales another one: scaled weights are not read",
                hint="take the bf16 or fp16 variant of the file",
                code="scaled-weights",
            )


def _index(file: Path) -> dict[str, Entry]:
    return index_safetensors(file) if file.suffix == ".safetensors" else index_torch_file(file)


def _check_shards(index: Path, there: set[str]) -> None:
    """Every file that an index names is there; what it says of tensors is not needed."""
    try:
        if index.stat().st_size > _INDEX_LIMIT_BYTES:
            raise ValueError  # noqa: TRY301 - one message for every way to be malformed
        shards = json.loads(index.read_bytes())["weight_map"]
        absent = [(name, file) for name, file in shards.items() if file not in there]
    except OSError as error:
        raise WeightsError(f"{index}: {error.strerror}", code="unreadable-weights") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise WeightsError(f"{index}: is no index of shards", code="bad-weights") from None
    if absent:
        name, file = absent[0]
        raise WeightsError(
            f"{index.parent}: {file!r} is missing, which has {name!r} and {len(absent) - 1} more "
            "tensors",
            hint=f"{index.name} names every file that belongs to the model",
            code="missing-shard",
        )
