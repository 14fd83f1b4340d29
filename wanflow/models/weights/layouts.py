"""Where a part's weights are in what people have on disk, and how they become one checkpoint.

    diffusers folder             official folder                            a file by itself
    text_encoder/*.safetensors   models_t5_umt5-xxl-enc-bf16.pth            .safetensors, .pth
    transformer/*.safetensors    diffusion_pytorch_model*.safetensors
    vae/*.safetensors            Wan2.1_VAE.pth, Wan2.2_VAE.pth
    image_encoder/*              models_clip_open-clip-xlm-roberta-...pth
    two experts: transformer/*   high_noise_model/*.safetensors
    and transformer_2/*          low_noise_model/*.safetensors

A *place* is a part's own folder, the official folder (of the DiT, which may lie in several files)
or a file. What a file is, and whether the tensors in it have official names, is seen from its
bytes, wherever it lies and whatever stands before the names. How many files a part has, they and
their index say, never a name. Several places may be laid over each other: VACE's part over a plain
transformer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanflow.errors import WeightsError
from wanflow.models.weights.pipeline import (
    PAIRS,
    check_class,
    check_not_other,
    check_one,
    check_pipeline,
    expert_folder,
    no_expert,
    part_of,
)

if TYPE_CHECKING:
    from wanflow.models.weights.checkpoint import Checkpoint

_DIT = "diffusion_pytorch_model*.safetensors"
_CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14"
# By part, what comes first is taken: a safetensors file was made from the other.
OFFICIAL: Mapping[str, Sequence[str]] = {
    "text_encoder": ("models_t5_umt5-xxl-enc-*.safetensors", "models_t5_umt5-xxl-enc-*.pth"),
    "transformer": (_DIT,),
    "vae": ("Wan2.[12]_VAE.safetensors", "Wan2.[12]_VAE.pth"),
    "image_encoder": (f"{_CLIP}.safetensors", f"{_CLIP}.pth"),
}
PARTS = tuple(OFFICIAL)
_INDEX_LIMIT_BYTES = 16 << 20
_SAFETENSORS = (".safetensors", ".sft")
_PICKLED = re.compile(r"(?:diffusion_)?pytorch_model(?:-\d+-of-\d+)?\.bin")


def find_part(path: Path, part: str, expert: str = "") -> Path | None:
    """The place of a part in what *path* names; None when it is not there.

    WeightsError where *path* is a folder of another kind of model, of two transformers where one is
    wanted, or of one where an *expert* is.
    """
    if path.is_file():
        return path
    check_pipeline(path)
    if part == "transformer" and not expert:
        check_one(path)
    place = _expert_place(path, expert) if expert else _place(path, part)
    if place is not None and place.is_dir():
        check_class(part, place)
    return place


def _expert_place(path: Path, expert: str) -> Path | None:
    if folder := expert_folder(path, expert):
        return folder if weight_files(folder) else None
    place = _place(path, "transformer")
    if place is None:
        return None
    if place != path or any(_place(path, part) for part in ("text_encoder", "vae")):
        raise no_expert(path, expert)
    check_not_other(place, expert)
    return place


def _place(path: Path, part: str) -> Path | None:
    if weight_files(path / part):
        return path / part
    name = "transformer" if any(path.name in pair for pair in PAIRS) else path.name
    if name in PARTS or part_of(path) == part:
        return path if part in (name, part_of(path)) and weight_files(path) else None
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


def weight_files(folder: Path) -> list[Path]:
    """The files of weights in a part's folder: safetensors, else pickles of diffusers, else GGUF.

    Hidden files are none: another system leaves its own beside each (`._model.safetensors`).
    """
    if not folder.is_dir():
        return []
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    plain = [file for file in files if file.suffix.lower() in _SAFETENSORS]
    pickled = [file for file in files if _PICKLED.fullmatch(file.name)]
    return plain or pickled or [file for file in files if file.suffix.lower() == ".gguf"]


def is_official_folder(place: Path) -> bool:
    """Whether a place is an official folder, which has its DiT in it beside everything else."""
    return place.is_dir() and place.name not in PARTS and any(place.glob(_DIT))


def open_part(part: str, place: Path) -> Checkpoint:
    """Index a part's files under diffusers' names; WeightsError names file and tensor."""
    from wanflow.models.weights.checkpoint import Checkpoint
    from wanflow.models.weights.entry import merged
    from wanflow.models.weights.file_kind import index_file
    from wanflow.models.weights.official_names import is_official, renamed
    from wanflow.models.weights.packed_files import recognised
    from wanflow.models.weights.prefix import without_prefix
    from wanflow.models.weights.spread import spread
    from wanflow.models.weights.tied import tied

    files = [place] if place.is_file() else weight_files(place)
    if is_official_folder(place):
        files = sorted(place.glob(_DIT))
    if not files:
        raise WeightsError(
            f"{place}: no safetensors file there",
            hint="point --weights at a folder of diffusers or an official one, or at a file",
            code="missing-weights",
        )
    for index in sorted(place.glob("[!.]*.safetensors.index.json")):
        _check_shards(index, {file.name for file in files})
    entries = merged((file, index_file(file)) for file in files)
    found = recognised(entries)
    own = without_prefix(part, found.entries)
    official = is_official(part, own.entries)
    checkpoint = Checkpoint(place, renamed(part, own.entries), own.prefix, official)
    if part == "text_encoder":
        checkpoint = tied(checkpoint)
    entries, forms = spread(checkpoint.entries, found)
    notes = (*checkpoint.notes, *found.notes)
    return attrs.evolve(checkpoint, entries=entries, forms=forms, format=found.format, notes=notes)


def laid_over(base: Checkpoint, others: Sequence[Checkpoint]) -> Checkpoint:
    """Put the tensors of several places together; WeightsError where two have the same one."""
    entries, forms, notes = dict(base.entries), dict(base.forms), base.notes
    for other in others:
        forms |= other.forms
        for name, entry in other.entries.items():
            if name in entries:
                raise WeightsError(
                    f"{entry.path}: tensor {entry.stored_as or name!r} is in {entries[name].path} "
                    "too, which it is laid over",
                    hint="weights that are laid over each other have no tensor in common",
                    code="same-tensor",
                )
            entries[name] = entry
        notes += other.notes
    return attrs.evolve(base, entries=entries, forms=forms, notes=notes)


def shards_of(index: Path) -> dict[str, str]:
    """Read an index: the file of each tensor.

    Raises WeightsError for what can't be read or is no index.
    """
    try:
        if index.stat().st_size > _INDEX_LIMIT_BYTES:
            raise ValueError  # noqa: TRY301 - one message for every way to be malformed
        return {
            name: str(file) for name, file in json.loads(index.read_bytes())["weight_map"].items()
        }
    except OSError as error:
        raise WeightsError(f"{index}: {error.strerror}", code="unreadable-weights") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise WeightsError(f"{index}: is no index of shards", code="bad-weights") from None


def _check_shards(index: Path, there: set[str]) -> None:
    """Every file that an index names is there; what it says of tensors is not needed."""
    absent = [(name, file) for name, file in shards_of(index).items() if file not in there]
    if absent:
        name, file = absent[0]
        raise WeightsError(
            f"{index.parent}: {file!r} is missing, which has {name!r} and {len(absent) - 1} more "
            "tensors",
            hint=f"{index.name} names every file that belongs to the model",
            code="missing-shard",
        )
