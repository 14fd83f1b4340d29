"""Weights on disk: an index of tensors, and reads straight into a caller's buffer.

Of safetensors the header is checked before anything is believed
(https://github.com/huggingface/safetensors#format): its size, every shape against its byte range,
no overlap, nothing past the end of the file. No mapping: bytes go where the caller says.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import attrs
import torch

from wanflow.errors import WeightsError
from wanflow.models.packing.form import Form, Piece
from wanflow.models.weights.soundness import fault_of

STAGING_BYTES = 1 << 20  # one chunk of a tensor whose dtype changes on the way in
_OPENED_NUMBERS = 1 << 16  # of a weight that is opened when it is read, at a time
_LOOKED_AT_BYTES = 1 << 16  # of a piece that is looked at before anything runs
_AT_ONCE = 1024  # pieces of memory that Linux fills by one call (IOV_MAX)
_AHEAD_BYTES = 1 << 20  # a read of so much goes on for a while; rows are smaller
HEADER_LIMIT_BYTES = 100_000_000
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "C64": torch.complex64,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip
DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
FETCH_AGAIN = "download it again, or compare its size with the published one"


@attrs.frozen
class Entry:
    """Where a tensor lies: file, byte offset in it, dtype and shape.

    What has a dtype that torch has not is bytes: left alone, unless something needs it.
    """

    path: Path
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stored_as: str = ""  # its name in the file, where that is another
    foreign_dtype: str = ""  # as the file names it

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def dtype_name(self) -> str:
        """The dtype in words."""
        return self.foreign_dtype or str(self.dtype).removeprefix("torch.")

    @property
    def is_weight(self) -> bool:
        """Whether its numbers can be weights: floats, and not the exponents of scales."""
        return (
            not self.foreign_dtype
            and self.dtype.is_floating_point
            and self.dtype != torch.float8_e8m0fnu
        )


@attrs.frozen
class Checkpoint:
    """The tensors of one part by name; *prefix* stood before its names in the file."""

    folder: Path
    entries: Mapping[str, Entry]
    prefix: str = ""
    is_official: bool = False  # by its names
    forms: Mapping[str, Form] = attrs.field(factory=dict)  # of the weights that are packed
    notes: tuple[str, ...] = ()  # what a person should know of it
    format: str = ""  # of those, as people call it
    _sound: set[str] = attrs.field(factory=set, init=False, eq=False, repr=False)

    @property
    def weights(self) -> dict[str, Entry]:
        """Every tensor as it is when it is open, for questions of names and shapes."""
        weights = dict(self.entries)
        for name, form in self.forms.items():
            numbers, *others = self.pieces_of(name)
            for other in others:
                del weights[other]
            weights[name] = attrs.evolve(
                weights.pop(numbers), dtype=torch.float32, shape=form.shape, foreign_dtype=""
            )
        return weights

    def check(self, name: str, shape: tuple[int, ...]) -> Entry:
        """Return a tensor's entry; WeightsError when it is missing or has another shape."""
        entry = self.entries.get(name)
        if entry is None:
            raise WeightsError(
                f"{self.folder}: tensor {name!r} is missing ({len(self.entries)} others are there)",
                hint=f"wanflow models inspect {self.folder} says what is there",
                code="missing-tensor",
            )
        if entry.foreign_dtype:
            raise _no_weight(name, entry)
        if entry.shape != shape:
            raise WeightsError(
                f"{entry.path}: tensor {entry.stored_as or name!r} is {list(entry.shape)}, the "
                f"graph's config says {list(shape)}",
                code="wrong-shape",
            )
        return entry

    def check_weight(self, name: str, shape: tuple[int, ...]) -> None:
        """WeightsError for a tensor that `check` refuses, or whose numbers are no floats.

        Of a packed one the pieces are looked at.
        """
        if name in self.forms:
            self._check_packed(name, shape)
            return
        entry = self.check(name, shape)
        if not entry.is_weight:
            raise _no_weight(name, entry)

    def _check_packed(self, name: str, shape: tuple[int, ...]) -> None:
        form = self.forms[name]
        if form.shape != shape:
            raise WeightsError(
                f"{self.folder}: tensor {self._stored(name)!r}, {form.name}, is "
                f"{list(form.shape)}, the graph's config says {list(shape)}",
                code="wrong-shape",
            )
        for piece, (_, kind) in self.pieces_of(name).items():
            entry = self.entries[piece]
            if piece not in self._sound and entry.nbytes <= _LOOKED_AT_BYTES:
                self.read_into(piece, torch.empty(kind.shape, dtype=kind.dtype), _staging(entry))

    def pieces_of(self, name: str) -> dict[str, tuple[str, Piece]]:
        """The names of the pieces of a packed weight, and what each is."""
        path = name.rpartition(".")[0]
        return {f"{path}.{leaf}": (leaf, piece) for leaf, piece in self.forms[name].pieces.items()}

    def dtype_of(self, name: str) -> torch.dtype | None:
        """The dtype that a tensor has in its file, None for one that is opened when it is read."""
        return None if name in self.forms else self.entries[name].dtype

    def read_into(self, name: str, target: torch.Tensor, staging: torch.Tensor | None) -> None:
        """Read a tensor into contiguous CPU *target*, through *staging* if the dtype changes."""
        if name in self.forms:
            self._open_into(name, 0, target)
            return
        path, _, leaf = name.rpartition(".")
        form = self.forms.get(f"{path}.weight")
        if form is None or leaf not in form.pieces:
            entry = self.check(name, tuple(target.shape))
            self._read(entry, entry.offset, target.reshape(-1), staging)
            return
        entry = self.entries[name]
        self._read(entry, entry.offset, target.reshape(-1), staging)
        if name not in self._sound:
            self._check_sound(form, leaf, entry, target)
            self._sound.add(name)

    def read_each_into(
        self, targets: Mapping[str, torch.Tensor], staging: torch.Tensor | None
    ) -> None:
        """Read tensors as `read_into` does each; those next to each other in a file at once."""
        plain: list[tuple[Entry, torch.Tensor]] = []
        for name, target in targets.items():
            if name in self.forms or f"{name.rpartition('.')[0]}.weight" in self.forms:
                self.read_into(name, target, staging)
                continue
            entry, flat = self.check(name, tuple(target.shape)), target.reshape(-1)
            if flat.dtype == entry.dtype:
                plain.append((entry, flat))
            else:
                self._read(entry, entry.offset, flat, staging)
        for first, flats in _neighbours(plain):
            with opened(first.path) as handle:
                if sum(flat.nbytes for flat in flats) >= _AHEAD_BYTES:
                    _read_ahead(handle)
                fill_each(handle, first.offset, flats, first.path)

    @staticmethod
    def _check_sound(form: Form, leaf: str, entry: Entry, piece: torch.Tensor) -> None:
        if fault := fault_of(form, leaf, piece):
            raise WeightsError(
                f"{entry.path}: tensor {entry.stored_as!r} {fault}",
                hint=FETCH_AGAIN,
                code="damaged-weights",
            )

    def _stored(self, name: str) -> str:
        """The name that the file has for the numbers of a packed weight."""
        return self.entries[next(iter(self.pieces_of(name)))].stored_as or name

    def read_part_into(self, name: str, first: int, target: torch.Tensor) -> None:
        """Read numbers of a tensor from number *first* on, in the dtype that it has in the file."""
        entry = self.entries[name]
        offset = entry.offset + first * entry.dtype.itemsize
        self._read(entry, offset, target.reshape(-1), None)

    def _open_into(self, name: str, first: int, target: torch.Tensor) -> None:
        """Open rows of a packed weight, from row *first* on, a few at a time."""
        form = self.forms[name]
        rows = max(1, _OPENED_NUMBERS // math.prod(form.shape[1:]))
        for start in range(0, len(target), rows):
            part = target[start : start + rows]
            chosen = slice(first + start, first + start + len(part))
            pieces = {
                leaf: self._piece(form, name, leaf, chosen)
                for name, (leaf, _) in self.pieces_of(name).items()
            }
            opened = form.part(chosen).open(pieces, torch.float32).whole()
            part.copy_(opened.view(part.shape))

    def _piece(self, form: Form, name: str, leaf: str, rows: slice) -> torch.Tensor:
        """Read some rows of a piece; the whole of one that has none."""
        entry, piece = self.entries[name], form.pieces[leaf]
        shape = (rows.stop - rows.start, *piece.shape[1:]) if piece.shape else ()
        data = torch.empty(shape, dtype=entry.dtype)
        stride_bytes = math.prod(piece.shape[1:]) * entry.dtype.itemsize
        offset = entry.offset + (rows.start * stride_bytes if piece.shape else 0)
        self._read(entry, offset, data.reshape(-1), None)
        data = data.to(piece.dtype)
        self._check_sound(form.part(rows), leaf, entry, data)
        return data

    def read_rows_into(
        self, name: str, rows: list[int], target: torch.Tensor, staging: torch.Tensor | None
    ) -> None:
        """Read rows of a 2-D tensor into *target* `[len(rows), width]`; each from its own place."""
        packed = self.forms.get(name)
        count, width = packed.shape if packed else self.entries[name].shape
        if width != target.shape[1]:
            self.check_weight(name, (count, target.shape[1]))
        first: dict[int, int] = {}
        for place, row in enumerate(rows):
            if row in first:
                target[place].copy_(target[first[row]])
                continue
            if not 0 <= row < count:
                raise WeightsError(
                    f"{self.folder}: token id {row} is outside {name!r} ({count} rows)",
                    hint="the tokenizer and the text encoder do not belong together",
                    code="token-range",
                )
            first[row] = place
            if packed:
                self._open_into(name, row, target[place : place + 1])
                continue
            entry = self.entries[name]
            offset = entry.offset + row * width * entry.dtype.itemsize
            self._read(entry, offset, target[place], staging)

    @staticmethod
    def _read(entry: Entry, offset: int, flat: torch.Tensor, staging: torch.Tensor | None) -> None:
        with opened(entry.path) as handle:
            if flat.numel() * entry.dtype.itemsize >= _AHEAD_BYTES:
                _read_ahead(handle)
            if flat.dtype == entry.dtype:
                fill(handle, offset, flat, entry.path)
                return
            if staging is None:
                msg = f"{entry.path}: {entry.dtype} for {flat.dtype} without a staging buffer"
                raise AssertionError(msg)
            chunk = staging.view(entry.dtype)
            for start in range(0, flat.numel(), chunk.numel()):
                part = chunk[: min(chunk.numel(), flat.numel() - start)]
                fill(handle, offset + start * entry.dtype.itemsize, part, entry.path)
                flat[start : start + part.numel()].copy_(part)


def _staging(entry: Entry) -> torch.Tensor:
    return torch.empty(entry.nbytes, dtype=torch.uint8)


def _no_weight(name: str, entry: Entry) -> WeightsError:
    alone = entry.dtype == torch.int8 and not entry.foreign_dtype
    what = "not floats" + (" with a scale" if alone else "")
    return WeightsError(
        f"{entry.path}: tensor {entry.stored_as or name!r} is {entry.dtype_name}, {what}",
        hint="take the bf16 or fp16 variant of the model, or another one that is read: "
        "docs/weights.md",
        code="wrong-dtype",
    )


def _read_ahead(handle: int) -> None:
    """Have the kernel read twice as far ahead as it does on its own."""
    if sys.platform == "linux":
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file of weights to read; WeightsError names it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file of weights that is read in the block, and nothing written; WeightsError."""
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> WeightsError:
    return WeightsError(f"{path}: {error.strerror or error}", code="unreadable-weights")


def fill(handle: int, offset: int, flat: torch.Tensor, path: Path) -> None:
    """Read bytes of the file *path* from *offset* on into a flat tensor."""
    fill_each(handle, offset, (flat,), path)


def fill_each(handle: int, offset: int, flats: Iterable[torch.Tensor], path: Path) -> None:
    """Read bytes of the file *path* from *offset* on into one flat tensor after the other."""
    views = [flat.view(torch.uint8).numpy().data for flat in flats if flat.numel()]
    end = offset + sum(map(len, views))
    while views:
        try:
            got = os.preadv(handle, views[:_AT_ONCE], offset)
        except OSError as error:
            raise _unreadable(path, error) from None
        if got == 0:
            raise WeightsError(f"{path}: ends before byte {end}", code="cut-weights")
        offset += got
        while views and got >= len(views[0]):
            got -= len(views.pop(0))
        if got:
            views[0] = views[0][got:]


def _neighbours(
    tensors: Iterable[tuple[Entry, torch.Tensor]],
) -> list[tuple[Entry, list[torch.Tensor]]]:
    """Put tensors together that lie one right after the other in a file, with the first's entry."""
    groups: list[tuple[Entry, list[torch.Tensor]]] = []
    end = 0
    for entry, flat in sorted(tensors, key=lambda pair: (pair[0].path, pair[0].offset)):
        if not groups or entry.path != groups[-1][0].path or entry.offset != end:
            groups.append((entry, []))
        groups[-1][1].append(flat)
        end = entry.offset + entry.nbytes
    return groups


def merged(indexed: Iterable[tuple[Path, Mapping[str, Entry]]]) -> dict[str, Entry]:
    """Put the tensors of several files together; WeightsError for one that is in two of them."""
    entries: dict[str, Entry] = {}
    for path, index in indexed:
        for name, entry in index.items():
            if name in entries:
                raise WeightsError(
                    f"{path}: tensor {name!r} is in {entries[name].path.name} too",
                    hint="keep one variant of the files in the folder",
                    code="same-tensor",
                )
            entries[name] = entry
    return entries


def index_safetensors(path: Path) -> dict[str, Entry]:
    """Index a file of safetensors; WeightsError names the file and the tensor that is wrong."""
    header, base, size = _header(path)
    header.pop("__metadata__", None)
    return _entries(path, header, base, size)


def safetensors_metadata(path: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Texts of these names in the header of a file of safetensors; nothing of any other file."""
    with opened(path) as handle, reading(path):
        start = os.pread(handle, 9, 0)
        if start[8:] != b"{":
            return {}
        text = os.pread(handle, min(int.from_bytes(start[:8], "little"), HEADER_LIMIT_BYTES), 8)
    if not any(name.encode() in text for name in names):
        return {}
    said = _header(path)[0].get("__metadata__")
    if not isinstance(said, dict):
        return {}
    return {name: said[name] for name in names if isinstance(said.get(name), str)}


def read_bytes(entry: Entry) -> bytes:
    """The bytes of a small tensor."""
    with opened(entry.path) as handle, reading(entry.path):
        return os.pread(handle, entry.nbytes, entry.offset)


def _header(path: Path) -> tuple[dict[str, object], int, int]:
    """The header of a file of safetensors, where its data begins, and the file's size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > HEADER_LIMIT_BYTES:
                raise WeightsError(f"{path}: is no safetensors file", code="bad-weights")
            if length > size - 8:
                raise cut(path, f"its header has {length} bytes, {size - 8} of them are there")
            header = json.loads(file.read(length))
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError):
        raise WeightsError(f"{path}: its header is no JSON", code="bad-weights") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: its header is no JSON object", code="bad-weights")
    return header, 8 + length, size


def _entries(path: Path, header: dict[str, object], base: int, size: int) -> dict[str, Entry]:
    entries, ranges = {}, []
    for name, fields in header.items():
        entry, end = _entry(path, name, fields, base)
        ranges.append((entry.offset, end, name))
        entries[name] = entry
    check_ranges(path, ranges, size)
    return entries


def check_ranges(path: Path, ranges: list[tuple[int, int, str]], size: int) -> None:
    """WeightsError for a tensor (from, to, name) past the end of its file, or over another one."""
    ranges.sort()
    wanted = max((end for _, end, _ in ranges), default=0)
    if wanted > size:
        name = next(name for _, end, name in ranges if end > size)
        text = f"its header wants {wanted} bytes, {size} are there; tensor {name!r} is not whole"
        raise cut(path, text)
    for (_, end, name), (start, _, other) in pairwise(ranges):
        if start < end:
            raise WeightsError(
                f"{path}: tensors {name!r} and {other!r} overlap", code="bad-weights"
            )


def cut(path: Path, how: str) -> WeightsError:
    """The error for a file that is not whole."""
    return WeightsError(f"{path}: is cut: {how}", hint=FETCH_AGAIN, code="cut-weights")


def _entry(path: Path, name: str, fields: object, base: int) -> tuple[Entry, int]:
    match fields:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]} if (
            all(type(n) is int and n >= 0 for n in (*shape, start, end)) and start <= end
        ):
            entry = Entry(path, base + start, _DTYPES.get(dtype, torch.uint8), tuple(shape))
            if dtype not in _DTYPES:
                entry = attrs.evolve(entry, shape=(end - start,), foreign_dtype=dtype)
        case _:
            raise WeightsError(f"{path}: tensor {name!r} is malformed", code="bad-weights")
    if entry.nbytes != end - start:
        raise WeightsError(
            f"{path}: tensor {name!r} has {end - start} bytes, its shape needs {entry.nbytes}",
            code="bad-weights",
        )
    return entry, base + end
