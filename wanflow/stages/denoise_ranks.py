"""How several ranks share a stage that denoises: its rows, or its two passes of guidance too.

VACE's blocks see the sequence that the others see, so a rank has its rows of their state too. What
ranks do about a step cache is in `cached_ranks.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch

from wanflow.models.wan.dit_ranks import RowShare
from wanflow.models.wan.rope import Grid
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.program import Call, Tensors
from wanflow.scheduler.ranks import Exchange, Group, Rank
from wanflow.stages.base import StageSetup

SHARE = "share"
GUIDANCE, ROWS, HEADS = "guidance", "rows", "ulysses"
GUIDANCE_HEADS = f"{GUIDANCE}.{HEADS}"
_EITHER = 3  # ranks, for which heads are sent less and rows are leaner


def share_knob(setup: StageSetup, rank: Rank, passes: Sequence[str]) -> Knob:
    """What ranks share."""
    choices: dict[str, str] = {}
    # A row's sums are those of one device; on a card a kernel may be picked by their number.
    cut = "bitwise" if rank.kind == "cpu" else "rounding"
    if len(passes) > 1 and rank.halves is not None:
        # With one rank a half nothing is cut; more of them cut its rows.
        choices[GUIDANCE] = cut if rank.count > 2 else "bitwise"
        if _divides(setup, rank.count // 2):
            choices[GUIDANCE_HEADS] = cut
    choices[ROWS] = cut
    if _divides(setup, rank.count):
        choices[HEADS] = cut
    return Knob(
        SHARE,
        choices,
        "guidance: half of the ranks take the pass with the prompt, the others that without; "
        "rows: each takes a share of the sequence, and keys and values are gathered; ulysses: the "
        "same, but in self-attention each takes some heads of all rows; guidance.ulysses: each "
        "half does so",
        searched=False,  # one value for all ranks: whoever plans them all pins it
    )


def _divides(setup: StageSetup, ranks: int) -> bool:
    """Whether so many ranks, more than one, can have equally many heads each."""
    config: Any = setup.module().module.config
    return ranks > 1 and config.num_attention_heads % ranks == 0


def worth_planning(shares: Sequence[str], ranks: int) -> list[str]:
    """Leave out the ways that another of *shares* is no worse than, whatever the link.

    Beside gathered rows, groups of heads are sent 2 / R of the bytes by R ranks, and need no more
    memory from four on; two are sent the same, and rows are leaner.
    """
    worse = set()
    for rows, heads, each in ((ROWS, HEADS, ranks), (GUIDANCE, GUIDANCE_HEADS, ranks // 2)):
        if rows in shares and heads in shares and each != _EITHER:
            worse.add(rows if each > _EITHER else heads)
    return [share for share in shares if share not in worse]


@attrs.frozen
class Sharing:
    """What one rank does of a stage at a value of the knob."""

    setup: StageSetup
    rank: Rank
    exchange: Exchange
    value: str
    passes: tuple[str, ...]  # of guidance, in all

    @property
    def _halves(self) -> tuple[Group, Group] | None:
        return self.rank.halves if self.value.startswith(GUIDANCE) else None

    @property
    def own_passes(self) -> tuple[str, ...]:
        """The passes that this rank takes part in."""
        halves = self._halves
        if halves is None:
            return self.passes
        return (self.passes[int(self.rank.index in halves[1])],)

    def rows(self, latent_shape: tuple[int, ...]) -> RowShare | None:
        """This rank's rows; None where it has all of them."""
        halves = self._halves
        group = self.rank.everyone
        if halves is not None:
            group = next(half for half in halves if self.rank.index in half)
        if len(group) == 1:
            return None
        tokens = Grid.of(self.setup.module().module, latent_shape).tokens
        by_heads = self.value.endswith(HEADS)
        return RowShare(tokens, group, group.index(self.rank.index), self.exchange, by_heads)

    def traded(self, step: int) -> Iterator[Call]:
        """Yield the call in which the halves give each other their predictions, if there are two.

        It reads the text of both passes, so that what is saved after a step has both, whichever
        rank saves it.
        """
        pair = self.rank.pair
        if self._halves is None or pair is None:
            return
        exchange, passes = self.exchange, self.passes
        (own,) = self.own_passes
        (other,) = (name for name in passes if name != own)
        names = {name: self.setup.own(f"prediction.{name}") for name in passes}

        def run(values: Tensors) -> Tensors:
            received = torch.empty_like(values[names[own]])
            predictions = {own: values[names[own]], other: received}
            exchange.fill([predictions[name] for name in passes], pair)
            return {names[other]: received}

        texts = (f"{self.setup.source('text')}.{name}" for name in passes)
        yield Call(f"trade.{own}", run, (names[own], *texts), step=step)

    def swap(self, gives: Sequence[torch.Tensor], takes: Sequence[torch.Tensor]) -> None:
        """Give tensors to the rank in this one's place in the other half, and fill those it gives.

        With the ways of guidance alone, where there are two halves.
        """
        (peer,) = (rank for rank in self.rank.pair or () if rank != self.rank.index)
        self.exchange.trade([(peer, t) for t in gives], [(peer, t) for t in takes])

    def agreed(self, number: torch.Tensor) -> None:
        """Give every rank the first one's *number*, in place.

        What is decided by it is decided alike: ranks that went different ways would wait for each
        other for ever, and cards of two kinds may sum up in two orders.
        """
        first, *others = self.rank.everyone
        if self.rank.index == first:
            self.exchange.trade([(rank, number) for rank in others], [])
        else:
            self.exchange.trade([], [(first, number)])


def sharing_of(
    setup: StageSetup, knobs: Mapping[str, str], passes: tuple[str, ...]
) -> Sharing | None:
    """What a stage's setup and knobs say of it; None on one device."""
    rank, exchange = setup.around.rank, setup.around.exchange
    if rank is None or exchange is None:
        return None
    value = knobs.get(SHARE) or next(iter(share_knob(setup, rank, passes).choices))
    return Sharing(setup, rank, exchange, value, passes)
