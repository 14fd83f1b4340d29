"""A digest of a tensor's bytes, read in part: pages spread over all of it, small ones whole.

A page is taken from each 2 MiB, and from no tensor fewer than sixteen, at places that no row length
divides. Tensors that differ everywhere, in any half of their rows or in the order of these, differ
here. What is smaller than the gap between two pages may be missed: one row of an embedding.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from wanflow.models.weights.entry import Entry
from wanflow.models.weights.file_reads import opened, reading

_PAGE_BYTES = 4096
_STRIDE_BYTES = 2 << 20
_LEAST_PAGES = 16
DIGEST_BYTES = 16
_WHOLE_BYTES = 1 << 20
_SCATTER = 0x9E3779B97F4A7C15  # Knuth's multiplicative hashing


def sample(entry: Entry) -> bytes:
    """Digest the sampled bytes of a tensor; WeightsError where they cannot be read."""
    with opened(entry.path) as handle, reading(entry.path):
        return sampled(handle, entry.offset, entry.nbytes)


def sampled(handle: int, offset: int, nbytes: int, pages: int | None = None) -> bytes:
    """Digest a sample of *nbytes* at *offset* of an open file, of so many *pages*."""
    digest = hashlib.sha256()
    for start, count in _pieces(nbytes, pages or max(_LEAST_PAGES, nbytes // _STRIDE_BYTES)):
        digest.update(os.pread(handle, count, offset + start))
    return digest.digest()[:DIGEST_BYTES]


def _pieces(nbytes: int, pages: int) -> Iterator[tuple[int, int]]:
    """Where each piece of a sample begins, the first and the last page among them."""
    if nbytes <= _WHOLE_BYTES:
        yield 0, nbytes
        return
    for number in range(pages - 1):
        low, high = number * nbytes // pages, (number + 1) * nbytes // pages
        yield low + number * _SCATTER % 2**64 % (high - low - _PAGE_BYTES), _PAGE_BYTES
    yield nbytes - _PAGE_BYTES, _PAGE_BYTES
