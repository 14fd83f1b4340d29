"""The weights of a part on disk, read straight into a caller's buffer; no file is mapped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import attrs
import torch

from wanflow.errors import WeightsError
from wanflow.models.packing.form import Form, Piece
from wanflow.models.weights.entry import FETCH_AGAIN, Entry
from wanflow.models.weights.file_reads import fill, fill_each, neighbours, opened, read_ahead
from wanflow.models.weights.soundness import fault_of

STAGING_BYTES = 1 << 20  # one chunk of a tensor whose dtype changes on the way in
_OPENED_NUMBERS = 1 << 16  # of a weight that is opened when it is read, at a time
_LOOKED_AT_BYTES = 1 << 16  # of a piece that is looked at before anything runs
_AHEAD_BYTES = 1 << 20  # a read of so much goes on for a while; rows are smaller


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
        for first, flats in neighbours(plain):
            with opened(first.path) as handle:
                if sum(flat.nbytes for flat in flats) >= _AHEAD_BYTES:
                    read_ahead(handle)
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
                read_ahead(handle)
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
