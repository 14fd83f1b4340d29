"""PyTorch's CUDA caching allocator, played on plain numbers: what it reserves for given requests.

The rules are those of `c10/cuda/CUDACachingAllocator.cpp` with its default settings, one stream:
requests are rounded up to 512 bytes; those up to 1 MiB come from segments of 2 MiB, larger ones
from segments of 20 MiB (below 10 MiB) or of their own size rounded up to 2 MiB; the smallest free
block that is large enough is taken and split where the rest is worth it; free neighbours are
joined; a segment goes back to the driver only when it is free as a whole and memory is short.
No torch.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import attrs

from wanflow.units import MIB

MIN_BLOCK_BYTES = 512
SMALL_BYTES = MIB  # the largest request that comes from the small pool
SMALL_SEGMENT_BYTES = 2 * MIB
LARGE_SEGMENT_BYTES = 20 * MIB
MIN_LARGE_BYTES = 10 * MIB  # from here on a segment is made to measure
ROUND_LARGE_BYTES = 2 * MIB

# The blocks of a segment by address, each with its size and whether it is in use.
Segment = tuple[tuple[int, bool], ...]
State = tuple[Segment, ...]


def rounded(nbytes: int) -> int:
    """Give the size of the block that a request needs."""
    return max(-(-nbytes // MIN_BLOCK_BYTES), 1) * MIN_BLOCK_BYTES


def segment_bytes(nbytes: int) -> int:
    """Give the size of the segment that is asked of the driver when no block is free."""
    size = rounded(nbytes)
    if size <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if size < MIN_LARGE_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-size // ROUND_LARGE_BYTES) * ROUND_LARGE_BYTES


@attrs.define(eq=False)
class Block:
    """A piece of a segment; `before` and `after` are its neighbours there."""

    segment: _Taken
    address: int
    size: int
    used: bool = False
    before: Block | None = None
    after: Block | None = None


@attrs.define(eq=False)
class _Taken:
    """A segment: its size, its first block, and how many of its blocks are in use."""

    size: int
    small: bool
    address: int
    used: int = 0
    first: Block | None = None


Place = tuple[int, int]  # size and address: free blocks are looked through in this order


class Allocator:
    """Blocks in use and free. *tight*: memory is short whenever a segment is asked for.

    `reserved_bytes` are all segments; `pinned_bytes` those that have a block in use, which is what
    is left when memory is short; `used_bytes` the blocks in use.
    """

    def __init__(self, state: State = (), *, tight: bool = False) -> None:
        self._tight = tight
        self._segments: dict[int, _Taken] = {}
        self._free: dict[bool, list[Place]] = {True: [], False: []}
        self._blocks: dict[int, Block] = {}
        self._top = 0
        self.reserved_bytes = self.pinned_bytes = self.used_bytes = 0
        for blocks in state:
            self._restore(blocks)

    def take(self, nbytes: int) -> Block:
        """Find a block for a request, in a new segment if it must be."""
        size = rounded(nbytes)
        small = size <= SMALL_BYTES
        free = self._free[small]
        at = bisect_left(free, (size, 0))
        if at == len(free):
            if self._tight:
                self.release()
            segment = self._reserve(segment_bytes(nbytes), small=small)
            block = self._add(segment, segment.address, segment.size, None)
        else:
            block = self._blocks[free.pop(at)[1]]
        rest = block.size - size
        if rest >= MIN_BLOCK_BYTES if small else rest > SMALL_BYTES:
            self._split(block, size)
        self._use(block)
        return block

    def give(self, block: Block) -> None:
        """Free a block and join it with free neighbours."""
        segment = block.segment
        block.used = False
        segment.used -= 1
        self.used_bytes -= block.size
        if not segment.used:
            self.pinned_bytes -= segment.size
        if block.after is not None and not block.after.used:
            self._drop_free(block.after)
            self._join(block, block.after)
        if block.before is not None and not block.before.used:
            self._drop_free(block.before)
            self._join(block.before, block)
            block = block.before
        self._put_free(block)

    def release(self) -> None:
        """Give segments that are free as a whole back to the driver."""
        for address, segment in list(self._segments.items()):
            if not segment.used and segment.first is not None:
                self._drop_free(segment.first)
                del self._blocks[address], self._segments[address]
                self.reserved_bytes -= segment.size

    def blocks(self) -> list[Block]:
        """List every block by address."""
        blocks = []
        for segment in self._segments.values():
            block = segment.first
            while block is not None:
                blocks.append(block)
                block = block.after
        return blocks

    def used(self) -> list[Block]:
        """List the blocks in use by address."""
        return [block for block in self.blocks() if block.used]

    def state(self) -> State:
        """Say the whole state as numbers, from which an allocator can be made again."""
        blocks: dict[int, list[tuple[int, bool]]] = {address: [] for address in self._segments}
        for block in self.blocks():
            blocks[block.segment.address].append((block.size, block.used))
        return tuple(map(tuple, blocks.values()))

    def _restore(self, blocks: Segment) -> None:
        total = sum(size for size, _ in blocks)
        segment = self._reserve(total, small=total == SMALL_SEGMENT_BYTES)
        address, before = segment.address, None
        for size, used in blocks:
            before = self._add(segment, address, size, before)
            address += size
            if used:
                self._use(before)
            else:
                self._put_free(before)

    def _reserve(self, size: int, *, small: bool) -> _Taken:
        segment = _Taken(size, small, self._top)
        self._segments[self._top] = segment
        self._top += size
        self.reserved_bytes += size
        return segment

    def _add(self, segment: _Taken, address: int, size: int, before: Block | None) -> Block:
        block = Block(segment, address, size, before=before)
        self._blocks[address] = block
        if before is None:
            segment.first = block
        else:
            block.after, before.after = before.after, block
            if block.after is not None:
                block.after.before = block
        return block

    def _split(self, block: Block, size: int) -> None:
        rest = block.size - size
        block.size = size
        self._put_free(self._add(block.segment, block.address + size, rest, block))

    def _join(self, block: Block, after: Block) -> None:
        block.size += after.size
        block.after = after.after
        if after.after is not None:
            after.after.before = block
        del self._blocks[after.address]

    def _use(self, block: Block) -> None:
        block.used = True
        if not block.segment.used:
            self.pinned_bytes += block.segment.size
        block.segment.used += 1
        self.used_bytes += block.size

    def _put_free(self, block: Block) -> None:
        insort(self._free[block.segment.small], (block.size, block.address))

    def _drop_free(self, block: Block) -> None:
        free = self._free[block.segment.small]
        del free[bisect_left(free, (block.size, block.address))]
