"""Write a file of safetensors whose large weights are packed: a chunk of rows at a time.

Each packed `X.weight` has its `X.weight_scale` `[out, 1]` in fp32 beside it, the naming that
LightX2V gives int8 and fp8 files (ModelTC/LightX2V, tools/convert/converter.py). What was written
is noted tensor by tensor, so that a stop loses one of them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import torch

from wanflow.files.whole import naming, sync_file
from wanflow.models.packing.form import PACKED
from wanflow.models.packing.made import form_of
from wanflow.models.packing.scaled import SCALE
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.file_reads import fill, opened
from wanflow.models.weights.packed_rows import packed_rows
from wanflow.models.weights.safetensors_file import DTYPE_NAMES

_COPY_BYTES = 16 << 20
_SUFFIX = "_scale"  # of the name of a weight's scale


@attrs.frozen
class TensorToWrite:
    """A tensor to be written: where it lies, and how it is to be packed if at all."""

    name: str
    entry: Entry
    kind: str = ""

    @property
    def outputs(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """The tensors that it becomes."""
        if not self.kind:
            return {self.name: (self.entry.dtype, self.entry.shape)}
        pieces = form_of(self.kind, self.entry.shape).pieces
        names = {PACKED: self.name, SCALE: self.name + _SUFFIX}
        return {names[leaf]: (piece.dtype, piece.shape) for leaf, piece in pieces.items()}


@attrs.frozen
class PackedFile:
    """A file to be: its tensors, in the order in which they are read, and what its header says."""

    sources: Sequence[TensorToWrite]
    metadata: Mapping[str, str]
    places: Mapping[str, int] = attrs.field(init=False)  # offsets of the tensors behind the header
    header: bytes = attrs.field(init=False)

    @places.default
    def _place(self) -> dict[str, int]:
        outputs = self._outputs()
        # The widest first: no tensor then begins where its numbers would not be aligned.
        names = sorted(outputs, key=lambda name: -outputs[name][0].itemsize)
        places, offset = {}, 0
        for name in names:
            places[name] = offset
            offset += _nbytes(*outputs[name])
        return places

    @header.default
    def _head(self) -> bytes:
        outputs = self._outputs()
        fields: dict[str, object] = {"__metadata__": dict(self.metadata)}
        for name, start in self.places.items():
            dtype, shape = outputs[name]
            end = start + _nbytes(dtype, shape)
            fields[name] = {
                "dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [start, end],
            }  # fmt: skip
        text = json.dumps(fields, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @property
    def nbytes(self) -> int:
        """The size of the file."""
        return len(self.header) + sum(_nbytes(*output) for output in self._outputs().values())

    def _outputs(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        return {name: output for s in self.sources for name, output in s.outputs.items()}


def write_packed(file: PackedFile, part: Path, advance: Callable[[int], None]) -> None:
    """Write *file* into *part*, or what is still lacking there; *advance* hears the bytes read.

    Beside it `PART.done` names the tensors that are whole, after the header that they are of.
    OSError; WeightsError for numbers that are not finite.
    """
    log = part.with_name(f"{part.name}.done")
    done = _done(log, file, part)
    with (
        naming(part),
        _writable(part, file) as handle,
        log.open("a", encoding="utf-8") as noted,
    ):
        if not done:
            noted.write(f"{_mark(file)}\n")
        for source in file.sources:
            if source.name not in done:
                _write(handle, file, source)
                os.fsync(handle)  # before it is noted
                noted.write(f"{source.name}\n")
                noted.flush()
            advance(source.entry.nbytes)
    sync_file(part)
    log.unlink()


def _mark(file: PackedFile) -> str:
    import hashlib

    return hashlib.sha256(file.header).hexdigest()


def _done(log: Path, file: PackedFile, part: Path) -> set[str]:
    """The tensors that an earlier try wrote whole, of this very file."""
    try:
        first, *names = log.read_text(encoding="utf-8").splitlines(keepends=True)
        if first.strip() == _mark(file) and part.stat().st_size == file.nbytes:
            return {_mark(file)} | {name[:-1] for name in names if name.endswith("\n")}
    except (OSError, ValueError):
        pass
    log.unlink(missing_ok=True)
    part.unlink(missing_ok=True)
    return set()


@contextmanager
def _writable(part: Path, file: PackedFile) -> Iterator[int]:
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.fstat(handle).st_size != file.nbytes:
            os.posix_fallocate(handle, 0, file.nbytes)  # a full disk is told now
        _put(handle, 0, file.header)
        yield handle
    finally:
        os.close(handle)


def _write(handle: int, file: PackedFile, source: TensorToWrite) -> None:
    places = {name: len(file.header) + file.places[name] for name in source.outputs}
    with opened(source.entry.path) as reading:
        if not source.kind:
            _copy(reading, source.entry, handle, places[source.name])
            return
        for first, pieces in packed_rows(source.name, source.entry, source.kind):
            width = source.entry.shape[1]
            for name, data, size in (
                (source.name, pieces[PACKED], width * pieces[PACKED].element_size()),
                (source.name + _SUFFIX, pieces[SCALE], pieces[SCALE].element_size()),
            ):
                _put(handle, places[name] + first * size, data.view(torch.uint8).numpy().data)


def _copy(reading: int, entry: Entry, handle: int, place: int) -> None:
    for start in range(0, entry.nbytes, _COPY_BYTES):
        count = min(_COPY_BYTES, entry.nbytes - start)
        data = torch.empty(count, dtype=torch.uint8)
        fill(reading, entry.offset + start, data, entry.path)
        _put(handle, place + start, data.numpy().data)


def _put(handle: int, offset: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        done += os.pwrite(handle, view[done:], offset + done)


def _nbytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * dtype.itemsize
