"""Write a model anew with its large weights packed, the rest of its folder beside it."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import attrs

from wanflow.errors import InputError, Interrupted, StageFailed, WeightsError
from wanflow.files.lock import locked
from wanflow.files.whole import FULL, replace_synced, unwritable, write_json
from wanflow.graph.configs import EXPERTS
from wanflow.models.packing.made import KINDS
from wanflow.models.weights.checkpoint import Checkpoint
from wanflow.models.weights.hub_cache import snapshot_of
from wanflow.models.weights.identity import identity
from wanflow.models.weights.layouts import find_part, open_part, shards_of
from wanflow.models.weights.packed_writer import PackedFile, TensorToWrite, write_packed
from wanflow.models.weights.pipeline import check_pipeline, experts
from wanflow.session.weights.inspect import Inspected, inspect
from wanflow.units import format_bytes

# Linears of the layers that repeat, by their names in diffusers and transformers.
_LARGE = {
    "transformer": re.compile(r"(vace_)?blocks\.\d+\..+\.weight"),
    "text_encoder": re.compile(r"encoder\.block\.\d+\.(?!.*relative_attention_bias).+\.weight"),
}
_GOES_ON = "the same command goes on where it stopped"
_T5 = re.compile(r"(models_t5_umt5-xxl-enc)-\w+")


class ShrinkWatch(Protocol):
    """Who is told how it goes on."""

    def start(self, words: str, nbytes: int) -> None:
        """Learn what is done, and how many bytes have to be read."""

    def begin(self, name: str) -> None:
        """Learn which file comes now."""

    def advance(self, nbytes: int) -> None:
        """Learn of bytes that were read."""


@attrs.frozen
class Shrunk:
    """What came of it."""

    path: str
    output: str
    kind: str
    packed: int  # weights
    read_bytes: int
    written_bytes: int
    inspected: Inspected


def shrink(path: Path, kind: str, output: Path, watch: ShrinkWatch) -> Shrunk:
    """Write the transformers and the text encoder of *path* into *output*, packed as *kind*.

    What else a folder has is linked there, or copied. WeightsError where nothing can be packed, or
    something is already; StageFailed on a full disk; after a stop the same call goes on.
    """
    if kind not in KINDS:
        raise InputError(
            f"--to {kind!r}: no such kind", hint=f"allowed: {', '.join(KINDS)}", code="bad-kind"
        )
    if not path.exists():
        raise WeightsError(f"{path}: no such file or folder", code="missing-weights")
    path = snapshot_of(path)
    files = dict(_files(path, kind))
    if not files:
        raise WeightsError(
            f"{path}: has neither a transformer nor a text encoder that could be packed",
            hint=f"wanflow models inspect {path} says what is there",
            code="nothing-to-pack",
        )
    _check_output(path, output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with locked(output, option="--output"):
            _write_all(path, files, output, kind, watch)
        (output / "lock").unlink(missing_ok=True)
    except KeyboardInterrupt:
        raise Interrupted("stopped", hint=_GOES_ON) from None
    except OSError as error:
        if error.errno in FULL:
            hint = f"free some space; {_GOES_ON}"
            raise StageFailed(f"the disk is full: {output}", hint=hint, code="disk-full") from None
        raise unwritable(Path(error.filename or output), error) from None
    sources = [source for file in files.values() for source in file.sources]
    return Shrunk(
        str(path), str(output), kind, sum(bool(s.kind) for s in sources),
        sum(s.entry.nbytes for s in sources), sum(file.nbytes for file in files.values()),
        inspect(output),
    )  # fmt: skip


def _check_output(path: Path, output: Path) -> None:
    inside = path if path.is_dir() else path.parent
    if output.resolve() == inside.resolve() or inside.resolve() in output.resolve().parents:
        raise InputError(
            f"--output {output}: lies in {inside}, whose files it is made from",
            hint="give a folder beside it",
            code="bad-output",
        )


def _files(path: Path, kind: str) -> Iterator[tuple[Path, PackedFile]]:
    """The files of weights that are written anew, each with what it will be."""
    for part, place in _places(path):
        checkpoint = open_part(part, place)
        if checkpoint.forms:
            name, form = next(iter(checkpoint.forms.items()))
            raise WeightsError(
                f"{place}: is packed already: {len(checkpoint.forms)} weights, {name!r} is "
                f"{form.name}",
                hint="pack the bf16 or fp16 weights",
                code="already-packed",
            )
        sources = _sources(part, checkpoint, kind)
        metadata = {"format": "pt", "packed": kind, "from": identity(checkpoint)[:16]}
        for file, those in sources.items():
            yield file, PackedFile(those, metadata)


def _places(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        part = next((p.part for p in inspect(path).parts if p.part in _LARGE), None)
        if part is not None:
            yield part, path
        return
    check_pipeline(path)
    for part in _LARGE:
        has_two = part == "transformer" and experts(path) is not None
        for expert in EXPERTS if has_two else ("",):
            place = find_part(path, part, expert)
            if place is not None:
                yield part, place


def _sources(part: str, checkpoint: Checkpoint, kind: str) -> dict[Path, list[TensorToWrite]]:
    """The tensors of each file under the names that they have there."""
    files: dict[Path, list[TensorToWrite]] = defaultdict(list)
    for name, entry in checkpoint.entries.items():
        is_large = len(entry.shape) == 2 and bool(_LARGE[part].fullmatch(name))
        packs = kind if is_large and entry.is_weight else ""
        files[entry.path].append(
            TensorToWrite(entry.stored_as or checkpoint.prefix + name, entry, packs)
        )
    return files


def _write_all(
    path: Path, files: dict[Path, PackedFile], output: Path, kind: str, watch: ShrinkWatch
) -> None:
    read_bytes = sum(s.entry.nbytes for file in files.values() for s in file.sources)
    written_bytes = sum(file.nbytes for file in files.values())
    sizes = f"{format_bytes(read_bytes)} to {format_bytes(written_bytes)}"
    watch.start(f"{path} as {kind}: {sizes}, into {output}", read_bytes)
    for old, file in files.items():
        new = _renamed(path, old, output, kind)
        watch.begin(new.name)
        new.parent.mkdir(parents=True, exist_ok=True)
        part = new.with_name(f"{new.name}.part")
        if _is_written(new, file):
            watch.advance(sum(source.entry.nbytes for source in file.sources))
            continue
        write_packed(file, part, watch.advance)
        part.replace(new)
    if path.is_dir():
        _bring_others(path, files, output)


def _is_written(new: Path, file: PackedFile) -> bool:
    """Whether an earlier try ended with this file: its header says what it was made from."""
    if not new.is_file() or new.stat().st_size != file.nbytes:
        return False
    with new.open("rb") as written:
        return written.read(len(file.header)) == file.header


def _renamed(path: Path, old: Path, output: Path, kind: str) -> Path:
    relative = old.relative_to(path) if path.is_dir() else Path(old.name)
    stem = _T5.sub(rf"\1-{kind}", relative.stem)
    return output / relative.with_name(f"{stem}.safetensors")


def _bring_others(path: Path, files: dict[Path, PackedFile], output: Path) -> None:
    """Link what else is in the folder; an index of shards has the scales too."""
    for old in sorted(path.rglob("*")):
        relative = old.relative_to(path)
        hidden = any(piece.startswith(".") for piece in relative.parts)
        if hidden or old in files or not old.is_file():
            continue
        new = output / relative
        new.parent.mkdir(parents=True, exist_ok=True)
        if old.name.endswith(".safetensors.index.json"):
            _write_index(old, new, {p: f for p, f in files.items() if p.parent == old.parent})
        elif not _is_there(old, new):
            _link(old.resolve(), new)


def _is_there(old: Path, new: Path) -> bool:
    """Whether an earlier try brought a file; what has become another since is brought again."""
    return new.exists() and new.stat().st_size == old.stat().st_size


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # another file system, or one without links
        shutil.copyfile(old, new.with_name(f"{new.name}.part"))
        replace_synced(new.with_name(f"{new.name}.part"), new)


def _write_index(old: Path, new: Path, beside: dict[Path, PackedFile]) -> None:
    """Write an index anew for its own files; another model's may lie *beside* them."""
    named = set(shards_of(old).values()) if beside else set()
    shards = {path: file for path, file in beside.items() if path.name in named}
    weights = {name: path.name for path, file in shards.items() for name in file.places}
    total = sum(file.nbytes - len(file.header) for file in shards.values())
    if weights:
        write_json(new, {"metadata": {"total_size": total}, "weight_map": weights})
    elif not new.exists():
        _link(old.resolve(), new)
