"""Orders in which segments are asked to stay; a plan keeps the longest start that fits. No torch.

The first one spreads those that stay evenly, so that the others are read behind their neighbours.
The rest vary it: where an end of a pass is dearer than its middle, where sizes differ. They are
the chains that cover all subsets (Greene and Kleitman's brackets), simplest first, so few segments
are searched through and many by what matters most.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from wanflow.scheduler.plan.holds import Hold


def spread(count: int) -> list[int]:
    """Order 0..count-1 so that every start of it is spread evenly (van der Corput's sequence)."""
    bits = max(count - 1, 1).bit_length()
    order = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits))
    return [i for i in order if i < count]


def orders_of(holds: Sequence[Hold], numbers: Sequence[int], limit: int) -> list[list[int]]:
    """At most *limit* orders of *numbers*, the most promising first."""
    by_gain: dict[int, list[int]] = {}
    for number in sorted(numbers, key=lambda n: holds[n].begin):
        by_gain.setdefault(-len(holds[number].gaps), []).append(number)
    groups = [group for _, group in sorted(by_gain.items())]
    first = [group[i] for group in groups for i in spread(len(group))]
    turned = [group[-1 - i] for group in groups for i in spread(len(group))]
    plain = [number for group in groups for number in group]
    by_size = sorted(first, key=lambda n: holds[n].nbytes)
    ends = [n for pair in zip(plain, plain[::-1], strict=True) for n in pair][: len(plain)]
    wanted = [first, by_size, ends, turned, plain, plain[::-1], by_size[::-1]]
    orders: dict[tuple[int, ...], None] = {}
    for order in itertools.chain(wanted, _chains(first, limit)):
        if len(orders) == limit:
            break
        orders.setdefault(tuple(order))
    return [list(order) for order in orders]


def _chains(items: Sequence[int], most: int) -> Iterator[list[int]]:
    """Orders whose starts are, taken together, all subsets: bracketed ones first, then the open."""
    opened = 0
    for size in range(len(items) // 2 + 1):
        for chosen in itertools.combinations(range(len(items)), size):
            opened += 1
            if opened > 4 * most:  # of a large number of items only the first few are looked at
                return
            partners = _partners(chosen)
            if partners is not None:
                taken = [*chosen, *partners]
                rest = [i for i in range(len(items)) if i not in taken]
                yield [items[i] for i in (*chosen, *rest, *partners)]


def _partners(chosen: Sequence[int]) -> list[int] | None:
    """The free place before each chosen one that it closes, or None where there is none."""
    partners: list[int] = []
    for place in chosen:
        before = place - 1
        while before in chosen or before in partners:
            before -= 1
        if before < 0:
            return None
        partners.append(before)
    return partners
