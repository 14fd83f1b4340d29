"""Loops whose passes cost the same: a profiler need not take every one of them.

A long sequence is worked through in dozens of chunks, thousands of kernels, and one chunk costs
what the next does. A loop that is written with `passes` runs whole where something is computed;
under a recorder it takes two passes of equal ones, and the second counts for all that are left out.
The loop may keep nothing of a pass but what it writes into memory that is there: then the memory
at its highest, and what the allocator makes of it, are those of the whole loop (a test compares).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Counting(Protocol):
    """Counts what happens; what happens now counts *times* over."""

    times: int

    def exchanged(self, nbytes: int) -> None:
        """Ranks meet in an exchange, and this one is given so many bytes by the others."""


_counting: ContextVar[Counting | None] = ContextVar("counting", default=None)


@contextmanager
def counted_by(counting: Counting) -> Iterator[None]:
    """Have loops leave passes out, and *counting* count them."""
    token = _counting.set(counting)
    try:
        yield
    finally:
        _counting.reset(token)


def is_counted() -> bool:
    """Whether what happens now is counted, for a profile, and need not be computed."""
    return _counting.get() is not None


def count_exchange(nbytes: int) -> None:
    """Have an exchange counted, if anybody counts."""
    counting = _counting.get()
    if counting is not None:
        counting.exchanged(nbytes)


def passes(parts: Sequence[slice]) -> Iterator[slice]:
    """Yield each part; under a recorder, two of equally long ones in a row."""
    counting = _counting.get()
    if counting is None:
        yield from parts
        return
    for _, equal in itertools.groupby(parts, key=lambda part: part.stop - part.start):
        first, *rest = equal
        yield first
        if rest:
            around = counting.times
            counting.times = around * len(rest)
            try:
                yield rest[0]
            finally:
                counting.times = around
