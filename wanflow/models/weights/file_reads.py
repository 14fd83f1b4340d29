"""Reads of weights: bytes of a file straight into a caller's tensors, errors by its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from wanflow.errors import WeightsError
from wanflow.models.weights.entry import Entry

_AT_ONCE = 1024  # pieces of memory that Linux fills by one call (IOV_MAX)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file of weights to read; WeightsError names it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(path, error) from None
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
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> WeightsError:
    """The error for a file of weights that can't be read now."""
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
            raise unreadable(path, error) from None
        if got == 0:
            raise WeightsError(f"{path}: ends before byte {end}", code="cut-weights")
        offset += got
        while views and got >= len(views[0]):
            got -= len(views.pop(0))
        if got:
            views[0] = views[0][got:]


def read_ahead(handle: int) -> None:
    """Have the kernel read twice as far ahead as it does on its own."""
    if sys.platform == "linux":
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)


def neighbours(
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


def read_bytes(entry: Entry) -> bytes:
    """The bytes of a small tensor."""
    with opened(entry.path) as handle, reading(entry.path):
        return os.pread(handle, entry.nbytes, entry.offset)
