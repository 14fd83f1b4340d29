"""A pool of PyTorch's CUDA allocator with `expandable_segments`: what stays mapped of it.

A pool is one range of addresses. A request is put into the smallest gap that holds it, pages are
mapped where it needs them, and when memory is short every page that holds nothing is unmapped. So
little is lost to fragments: the pages that are used in part. There are two, for requests of up to
1 MiB and for larger ones, and they know nothing of each other. No torch.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from wanflow.scheduler.allocator.plain import (
    LARGE_SEGMENT_BYTES,
    SMALL_BYTES,
    SMALL_SEGMENT_BYTES,
    rounded,
)

Span = tuple[int, int]  # address and size
State = tuple[Span, ...]


def is_small(nbytes: int) -> bool:
    """Whether the pool for small requests serves so many bytes."""
    return nbytes <= SMALL_BYTES


class Expandable:
    """The pool of requests of up to 1 MiB, on pages of 2 MiB, or of larger ones, on 20 MiB.

    `pinned_bytes` is what stays mapped when memory is short: every page that holds anything.
    """

    def __init__(self, state: State = (), *, small: bool) -> None:
        self._page_bytes = page_bytes = SMALL_SEGMENT_BYTES if small else LARGE_SEGMENT_BYTES
        self._blocks = dict(state)  # size by address
        self._used: list[Span] | None = None  # the same in order, until it changes
        self._end = 0  # of the last block: behind it all is free
        self._gaps: list[Span] = []  # between blocks: size and address, in order
        self._ends: dict[int, int] = {}  # of the gaps by where they start
        self._starts: dict[int, int] = {}  # and by where they end
        pages = reached = 0
        for address, size in state:
            if address > self._end:
                self._open(self._end, address)
            self._end = address + size
            after = (self._end - 1) // page_bytes + 1
            pages += after - max(address // page_bytes, reached)
            reached = after
        self.pinned_bytes = pages * page_bytes

    def take(self, nbytes: int) -> Span:
        """Put a block at the start of the smallest gap that holds it; the last has no end."""
        size = rounded(nbytes)
        place = bisect_left(self._gaps, (size, 0))
        if place == len(self._gaps):
            address, end = self._end, None
            self._end = address + size
        else:
            gap, address = self._gaps.pop(place)
            end = self._ends.pop(address)
            if gap > size:
                self._open(address + size, end)
            else:
                del self._starts[end]
        self._blocks[address] = size
        self._used = None
        self.pinned_bytes += self._pages(address, address + size, address, end)
        return address, size

    def give(self, block: Span) -> None:
        """Free a block, and join the gaps at both its ends."""
        address, size = block
        del self._blocks[address]
        self._used = None
        end = address + size
        start = self._starts.get(address)
        if start is None:
            start = address
        else:
            self._close(start, address)
        after = None if end == self._end else self._ends.get(end, end)
        if after is None:
            self._end = start
        else:
            if after > end:
                self._close(end, after)
            self._open(start, after)
        self.pinned_bytes -= self._pages(address, end, start, after)

    def used(self) -> list[Span]:
        """List the blocks in use, in an order that the state decides."""
        if self._used is None:
            self._used = sorted(self._blocks.items())
        return self._used

    def state(self) -> State:
        """Say the whole state as numbers, from which a pool can be made again."""
        return tuple(self.used())

    def _pages(self, start: int, end: int, free: int, end_free: int | None) -> int:
        """Bytes of the pages of a block that, but for it, lie in what is free: none has another."""
        page_bytes = self._page_bytes
        first, last = start // page_bytes, (end - 1) // page_bytes
        if first * page_bytes < free:
            first += 1
        if end_free is not None and (last + 1) * page_bytes > end_free:
            last -= 1
        return (last + 1 - first) * page_bytes if last >= first else 0

    def _open(self, start: int, end: int) -> None:
        insort(self._gaps, (end - start, start))
        self._ends[start] = end
        self._starts[end] = start

    def _close(self, start: int, end: int) -> None:
        del self._gaps[bisect_left(self._gaps, (end - start, start))]
        del self._ends[start], self._starts[end]
