"""PyTorch's CUDA allocator with `expandable_segments`: what stays mapped for given requests.

A pool is one range of addresses. A request is put into the smallest gap that holds it, pages are
mapped where it needs them, and when memory is short every page that holds nothing is unmapped. So
little is lost to fragments: the pages that are used in part. No torch.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import attrs

from wanflow.scheduler.allocator import (
    LARGE_SEGMENT_BYTES,
    SMALL_BYTES,
    SMALL_SEGMENT_BYTES,
    rounded,
)

Span = tuple[int, int]  # address and size


@attrs.define
class _Pool:
    """Blocks in use, by address.

    `inner` are the pages that a block fills from end to end; `edges` has, for each page where a
    block begins or ends, how many do.
    """

    page_bytes: int
    used: list[Span] = attrs.field(factory=list)
    inner: int = 0
    edges: dict[int, int] = attrs.field(factory=dict)

    @property
    def pinned_bytes(self) -> int:
        """The pages that hold anything."""
        return (self.inner + len(self.edges)) * self.page_bytes

    def take(self, size: int) -> Span:
        """Put a block into the smallest gap that holds it, at its start; the last has no end."""
        best: Span | None = None
        end = 0
        for address, length in self.used:
            if size <= address - end and (best is None or address - end < best[1]):
                best = (end, address - end)
            end = address + length
        span = (end if best is None else best[0], size)
        self.put(span)
        return span

    def put(self, span: Span) -> None:
        """Let a block be in use."""
        insort(self.used, span)
        first, last = self._pages(span)
        self.inner += max(last - first - 1, 0)
        for page in {first, last}:
            self.edges[page] = self.edges.get(page, 0) + 1

    def give(self, span: Span) -> None:
        """Free a block."""
        del self.used[bisect_left(self.used, span)]
        first, last = self._pages(span)
        self.inner -= max(last - first - 1, 0)
        for page in {first, last}:
            self.edges[page] -= 1
            if not self.edges[page]:
                del self.edges[page]

    def _pages(self, span: Span) -> tuple[int, int]:
        address, size = span
        return address // self.page_bytes, (address + size - 1) // self.page_bytes


Handle = tuple[bool, Span]
State = tuple[tuple[Span, ...], tuple[Span, ...]]


class Expandable:
    """Blocks in two pools: requests of up to 1 MiB on pages of 2 MiB, larger ones on 20 MiB."""

    def __init__(self, state: State = ((), ())) -> None:
        self._pools = {False: _Pool(LARGE_SEGMENT_BYTES), True: _Pool(SMALL_SEGMENT_BYTES)}
        for small, spans in zip((False, True), state, strict=True):
            for span in spans:
                self._pools[small].put(span)

    @property
    def pinned_bytes(self) -> int:
        """What is mapped when memory is short."""
        return sum(pool.pinned_bytes for pool in self._pools.values())

    def take(self, nbytes: int) -> Handle:
        """Find a block for a request."""
        size = rounded(nbytes)
        small = size <= SMALL_BYTES
        return small, self._pools[small].take(size)

    def give(self, handle: Handle) -> None:
        """Free a block."""
        small, span = handle
        self._pools[small].give(span)

    def used(self) -> list[Handle]:
        """List the blocks in use, in an order that the state decides."""
        return [(small, span) for small, pool in self._pools.items() for span in pool.used]

    def state(self) -> State:
        """Say the whole state as numbers, from which an allocator can be made again."""
        return tuple(self._pools[False].used), tuple(self._pools[True].used)
