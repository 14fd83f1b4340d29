"""What an exchange between ranks costs, for a profile: its bytes are counted, none is carried."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import torch

from wanflow.scheduler.profile.folded_loops import count_exchange
from wanflow.scheduler.ranks import Group


@attrs.frozen
class CountedExchange:
    """The `Exchange` of rank number *index* while it is planned."""

    index: int

    def fill(self, pieces: Sequence[torch.Tensor], group: Group) -> None:
        """Count what the others send."""
        others = [p for p, rank in zip(pieces, group, strict=True) if rank != self.index]
        count_exchange(sum(piece.nbytes for piece in others))

    def trade(
        self,
        sends: Sequence[tuple[int, torch.Tensor]],
        receives: Sequence[tuple[int, torch.Tensor]],
    ) -> None:
        """Count what is received; who only sends takes part in an exchange as well."""
        if sends or receives:
            count_exchange(sum(tensor.nbytes for _, tensor in receives))
