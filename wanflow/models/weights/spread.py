"""From the names that files have for packed weights to those of a module's parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from wanflow.models.packing.form import PACKED, Form
from wanflow.models.weights.beside_weights import WEIGHT
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.packed_files import PackedWeight, Recognised


def spread(
    entries: Mapping[str, Entry], found: Recognised
) -> tuple[dict[str, Entry], dict[str, Form]]:
    """Put the pieces of each packed weight where its numbers are, under the weight's new name.

    *entries* are those of *found* with other names, some of them cut into ranges of their rows.
    """
    spread_out: dict[str, Entry] = {}
    forms: dict[str, Form] = {}
    for name, entry in entries.items():
        packed = found.packed.get(entry.stored_as or name)
        if packed is None:
            spread_out[name] = entry
            continue
        forms[name], pieces = _rows(packed, entry)
        path = name.removesuffix(WEIGHT)
        spread_out |= {f"{path}.{leaf}": piece for leaf, piece in pieces}
    return spread_out, forms


def _rows(packed: PackedWeight, entry: Entry) -> tuple[Form, Iterator[tuple[str, Entry]]]:
    """A packed weight, or the rows of it that *entry* has of its numbers."""
    whole = packed.pieces[PACKED]
    first = (entry.offset - whole.offset) // (whole.nbytes // whole.shape[0])
    rows = slice(first, first + entry.shape[0])
    if entry.shape[0] == whole.shape[0]:
        return packed.form, iter(packed.pieces.items())
    form = packed.form.part(rows)
    return form, ((leaf, _cut(piece, rows)) for leaf, piece in packed.pieces.items())


def _cut(piece: Entry, rows: slice) -> Entry:
    if not piece.shape:
        return piece
    row_bytes = piece.nbytes // piece.shape[0]
    shape = (rows.stop - rows.start, *piece.shape[1:])
    return attrs.evolve(piece, offset=piece.offset + rows.start * row_bytes, shape=shape)
