"""Ranks as threads of this process: what they exchange goes through queues."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch

_PATIENCE = 60  # seconds


@attrs.define
class Wires:
    """A queue from each rank to each."""

    ways: dict[tuple[int, int], queue.Queue[torch.Tensor]] = attrs.field(
        factory=lambda: defaultdict(queue.Queue)
    )


@attrs.define
class ThreadExchange:
    """The `Exchange` of one of them. Nothing of a sender's memory reaches a receiver."""

    index: int
    wires: Wires

    def fill(self, pieces: Sequence[torch.Tensor], group: Sequence[int]) -> None:
        """Give each of the group this rank's piece, and take theirs."""
        own = pieces[group.index(self.index)]
        others = [(n, p) for n, p in zip(group, pieces, strict=True) if n != self.index]
        self.trade([(n, own) for n, _ in others], others)

    def trade(self, sends: Sequence[Any], receives: Sequence[Any]) -> None:
        """Send and receive; in the order of memory, as bytes go over a wire."""
        for peer, tensor in sends:
            self.wires.ways[self.index, peer].put(_flat(tensor).clone())
        for peer, tensor in receives:
            _flat(tensor).copy_(self.wires.ways[peer, self.index].get(timeout=_PATIENCE))


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_strided((tensor.numel(),), (1,))


def together(count: int, work: Callable[[int, ThreadExchange], Any]) -> list[Any]:
    """Have *work* done by so many ranks; what each gives."""
    wires = Wires()
    for one in range(count):
        for other in range(count):
            wires.ways[one, other] = queue.Queue()
    results: list[Any] = [None] * count
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            results[index] = work(index, ThreadExchange(index, wires))
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
