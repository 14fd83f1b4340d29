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
