"""Several ranks compute one video: which of them one is, and what they give each other. No torch.

A *rank* is one process on one device. All ranks run the same program; where one needs what another
made, all of a *group* come to the same exchange, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    import torch

LOST = "rank-lost"
"""The code of an error that another rank's end is the reason of."""

Group = tuple[int, ...]
"""Ranks that come to an exchange together, in order."""


class Exchange(Protocol):
    """Carries tensors between ranks."""

    def fill(self, pieces: Sequence[torch.Tensor], group: Group) -> None:
        """Fill the other ranks' *pieces*, of which this rank has made its own.

        One a rank of the *group*, in its order, each contiguous, of the same sizes everywhere.
        """

    def trade(
        self,
        sends: Sequence[tuple[int, torch.Tensor]],
        receives: Sequence[tuple[int, torch.Tensor]],
    ) -> None:
        """Send tensors to ranks and fill those that are received from ranks, all at once.

        Each in one piece of memory. What two ranks have for each other is in one order on both
        sides.
        """


@attrs.frozen
class Rank:
    """Number `index` of `count` ranks, on devices of a `kind`: `cpu` or `cuda`."""

    index: int
    count: int
    kind: str
    exchange: Exchange | None = None  # None while planning

    @property
    def key(self) -> list[object]:
        """What of it decides the costs of calls, as plain data."""
        return [self.index, self.count, self.kind]

    @property
    def everyone(self) -> Group:
        """All ranks."""
        return tuple(range(self.count))

    @property
    def halves(self) -> tuple[Group, Group] | None:
        """The ranks of the two passes of guidance, where their number is even."""
        if self.count % 2:
            return None
        half = self.count // 2
        return tuple(range(half)), tuple(range(half, self.count))

    @property
    def pair(self) -> Group | None:
        """This rank and the one in its place in the other half."""
        if self.count % 2:
            return None
        first = self.index % (self.count // 2)
        return first, first + self.count // 2


def groups_of(count: int) -> list[Group]:
    """Every group that *count* ranks may exchange in, each once, in an order all agree on."""
    ranks = [Rank(index, count, "") for index in range(count)]
    groups = [ranks[0].everyone]
    if halves := ranks[0].halves:
        groups += [*halves, *(rank.pair for rank in ranks if rank.pair is not None)]
    return [group for group in dict.fromkeys(groups) if len(group) > 1]
