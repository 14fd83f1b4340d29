"""The order stages run in: by name among those that are ready, so that it never varies."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

import attrs


@attrs.frozen
class Order:
    """Stages in running order, or the cycle that leaves them without one (first stage repeated)."""

    stages: tuple[str, ...] = ()
    cycle: tuple[str, ...] = ()


def find_order(needs: Mapping[str, set[str]]) -> Order:
    """Sort stages by what they need.

    The same order as networkx's lexicographical sort (a test compares them), from the standard
    library: importing networkx takes half a second that every command would pay.
    """
    sorter = TopologicalSorter({name: sorted(needs[name]) for name in sorted(needs)})
    try:
        sorter.prepare()
    except CycleError as error:
        return Order(cycle=_turned(error.args[1]))
    order: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, name)
        order.append(heapq.heappop(ready))
        sorter.done(order[-1])
    return Order(stages=tuple(order))


def _turned(cycle: list[str]) -> tuple[str, ...]:
    """Start a cycle at its first name."""
    body = cycle[:-1]
    start = body.index(min(body))
    return (*body[start:], *body[:start], body[start])
