"""PyTorch's CUDA allocator with `expandable_segments`: what stays mapped for given requests.

A pool is one range of addresses. A request is put into the smallest gap that holds it, pages are
mapped where it needs them, and when memory is short every page that holds nothing is unmapped. So
little is lost to fragments: the pages that are used in part. No torch.
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
Handle = tuple[bool, Span]
State = tuple[tuple[Span, ...], tuple[Span, ...]]
_PAGE_BYTES = {True: SMALL_SEGMENT_BYTES, False: LARGE_SEGMENT_BYTES}


class Expandable:
    """Blocks in two pools: requests of up to 1 MiB on pages of 2 MiB, larger ones on 20 MiB.

    `pinned_bytes` is what stays mapped when memory is short: every page that holds anything.
    """

    def __init__(self, state: State = ((), ())) -> None:
        self.pinned_bytes = 0
        self._used: dict[bool, list[Span]] = {False: [], True: []}
        self._gaps: dict[bool, list[Span]] = {False: [], True: []}  # size and address, in order
        # Per pool, how many blocks begin or end on a page; those between belong to one block alone.
        self._edges: dict[bool, dict[int, int]] = {False: {}, True: {}}
        for small, spans in zip((False, True), state, strict=True):
            end, gaps = 0, self._gaps[small]
            for address, size in spans:
                if address > end:
                    gaps.append((address - end, end))
                end = address + size
                self._touch(small, (address, size))
            gaps.sort()
            self._used[small] = list(spans)

    def take(self, nbytes: int) -> Handle:
        """Put a block at the start of the smallest gap that holds it; the last has no end."""
        size = rounded(nbytes)
        small = size <= SMALL_BYTES
        used, gaps = self._used[small], self._gaps[small]
        place = bisect_left(gaps, (size, 0))
        if place < len(gaps):
            gap, where = gaps.pop(place)
            if gap > size:
                insort(gaps, (gap - size, where + size))
            insort(used, (where, size))
        else:
            where = sum(used[-1]) if used else 0
            used.append((where, size))
        self._touch(small, (where, size))
        return small, (where, size)

    def give(self, handle: Handle) -> None:
        """Free a block."""
        small, (address, size) = handle
        self._widen(small, (address, size))
        edges, page_bytes = self._edges[small], _PAGE_BYTES[small]
        first, last = address // page_bytes, (address + size - 1) // page_bytes
        if last > first + 1:
            self.pinned_bytes -= (last - first - 1) * page_bytes
        for page in (first, last) if first != last else (first,):
            edges[page] -= 1
            if not edges[page]:
                del edges[page]
                self.pinned_bytes -= page_bytes

    def _widen(self, small: bool, span: Span) -> None:
        """Take a block out, and join the gaps at both its ends; behind the last there is none."""
        used, gaps = self._used[small], self._gaps[small]
        place = bisect_left(used, span)
        start, end = sum(used[place - 1]) if place else 0, sum(span)
        if span[0] > start:
            del gaps[bisect_left(gaps, (span[0] - start, start))]
        if place + 1 < len(used):
            after = used[place + 1][0]
            if after > end:
                del gaps[bisect_left(gaps, (after - end, end))]
            insort(gaps, (after - start, start))
        del used[place]

    def used(self) -> list[Handle]:
        """List the blocks in use, in an order that the state decides."""
        return [(small, span) for small, spans in self._used.items() for span in spans]

    def state(self) -> State:
        """Say the whole state as numbers, from which an allocator can be made again."""
        return tuple(self._used[False]), tuple(self._used[True])

    def _touch(self, small: bool, span: Span) -> None:
        address, size = span
        edges, page_bytes = self._edges[small], _PAGE_BYTES[small]
        first, last = address // page_bytes, (address + size - 1) // page_bytes
        if last > first + 1:
            self.pinned_bytes += (last - first - 1) * page_bytes
        for page in (first, last) if first != last else (first,):
            if page in edges:
                edges[page] += 1
            else:
                edges[page] = 1
                self.pinned_bytes += page_bytes
