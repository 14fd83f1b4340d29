"""Where a tensor of a file of weights lies, and what a file of them must hold to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import attrs
import torch

from wanflow.errors import WeightsError

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
