"""A weight of floats packed as it is read: some rows at a time, which stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from wanflow.errors import WeightsError
from wanflow.models.packing.form import Pieces
from wanflow.models.packing.made import pack
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.file_reads import fill, opened

_NUMBERS = 1 << 16  # at a time: what they take, in fp32 too, is less than a chunk of staging


def packed_rows(name: str, entry: Entry, kind: str) -> Iterator[tuple[int, Pieces]]:
    """Pack the weight `[out, in]` at *entry* as *kind*: each time the first row's number, and rows.

    WeightsError names the tensor, *name* in its file, and the row that is not finite.
    """
    count, width = entry.shape
    buffer = torch.empty(max(1, _NUMBERS // width), width, dtype=entry.dtype)
    with opened(entry.path) as reading:
        for first in range(0, count, len(buffer)):
            rows = buffer[: min(len(buffer), count - first)]
            offset = entry.offset + first * width * entry.dtype.itemsize
            fill(reading, offset, rows.view(-1), entry.path)
            try:
                pieces = pack(kind, rows)
            except ValueError as error:
                raise WeightsError(
                    f"{entry.path}: tensor {name!r} can't be packed: {error}, counted from row "
                    f"{first}",
                    code="not-finite",
                ) from None
            yield first, pieces
