"""Strips of a frame among several ranks: what each decodes, and what they hand on.

Rank r of R decodes the strips r, r + R, ..., each of all frames before the next, as one device
does them in the order `strips`. A strip goes on with the line buffers that the strip before it
left, frame by frame, so that a rank works one frame behind the rank before it:

    slot      0      1      2      3      4      5      6
    rank 0   s0 f0  s0 f1  s0 f2  s0 f3  s2 f0  s2 f1  s2 f2
    rank 1          s1 f0  s1 f1  s1 f2  s1 f3  s3 f0  s3 f1

After each slot every rank hands its lines to the next one. The calls are those of one device, on
the same numbers, so that frames have its bits. What sees a whole frame is small and is computed by
every rank; the rows of a chunk come to the first rank once all strips are done.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs
import torch

from wanflow.models.wan import decoder_strips as lines
from wanflow.models.wan.strip import ROWS, strides_of
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.program import Call, Tensors
from wanflow.scheduler.ranks import Exchange, Rank
from wanflow.stages.base import StageSetup
from wanflow.stages.decode_strips import Strips, settings

SHARE = "share"
FIRST, STRIPS = "first", "strips"  # who decodes: the first rank alone, or all
_MOST_ROUNDS = 16  # strips a rank of a setting that is searched, each a call a part and frame


def decode_share_knob(longer: int) -> tuple[Knob, ...]:
    """The knob of a stage of which ranks can share the strips; none for a frame of a row or two."""
    if not any(setting.startswith("strips.") for setting in settings(longer)):
        return ()
    knob = Knob(
        SHARE,
        {FIRST: "bitwise", STRIPS: "rounding"},  # as strips do beside whole frames
        "first: the first rank decodes alone; strips: each rank has every so many strips, and "
        "hands the next one what they keep",
        searched=False,  # one value for all ranks: whoever plans them all pins it
    )
    return (knob,)


@attrs.frozen
class FrameStrip:
    """A strip of a frame: what a rank does in a slot."""

    strip: int
    frame: int


@attrs.frozen
class Handed:
    """A tensor that goes from a strip to the next one of its frame."""

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@attrs.frozen
class SharedStrips:
    """One rank's calls for a setting `strips.N`."""

    strips: Strips
    rank: Rank
    exchange: Exchange

    @property
    def _setup(self) -> StageSetup:
        return self.strips.setup

    @property
    def _frames(self) -> int:
        return self.strips.shape[2]

    @property
    def _round(self) -> int:
        """Slots from a rank's strip to its next one: it comes when the lines for it are there."""
        return max(self._frames, self.rank.count)

    @property
    def rounds(self) -> int:
        """Strips of the rank that has most of them."""
        return math.ceil(len(self.strips.turns) / self.rank.count)

    @property
    def slots(self) -> int:
        """Until the last rank is done."""
        return (self.rounds - 1) * self._round + self._frames + self.rank.count - 1

    @property
    def waiting_share(self) -> float:
        """How long the first rank waits for others, as a part of what its own turns take."""
        return self.slots / (self.rounds * self._frames) - 1

    @property
    def own(self) -> range:
        """This rank's strips."""
        return self._strips_of(self.rank.index)

    def _strips_of(self, rank: int) -> range:
        return range(rank, len(self.strips.turns), self.rank.count)

    def turn_of(self, rank: int, slot: int) -> FrameStrip | None:
        """What a *rank* does in a slot; None where it waits."""
        turn, frame = divmod(slot - rank, self._round)
        strips = self._strips_of(rank)
        if not 0 <= turn < len(strips) or frame >= self._frames:
            return None
        return FrameStrip(strips[turn], frame)

    def calls(self) -> Iterator[Call]:
        """Yield every call after the clip's first convolution."""
        if self.own:
            for frame in range(self._frames):
                yield from self.strips.open(frame, self.own)
        for slot in range(self.slots):
            turn = self.turn_of(self.rank.index, slot)
            if turn is not None:
                yield from self.strips.strip(turn.frame, turn.strip)
            yield from self._hand(slot, turn)
        for frame in range(self._frames):
            yield from self._put_together(frame)

    def _handed(self, turn: FrameStrip | None) -> tuple[Handed, ...]:
        """What is left of a strip for those after it."""
        if turn is None:
            return ()
        module = self._setup.module().module
        first = turn.frame == 0
        shapes = lines.input_shapes(module, min(self.strips.shape[3:]), first=first)
        handed = []
        for part, shape in shapes.items():
            following = (t for turns in self.strips.turns[turn.strip + 1 :] for t in turns)
            after = next((t for t in following if t.part == part), None)
            if after is None:
                continue
            if after.taken:
                size = lines.lines_size(module, part, shape, first=first)
                handed.append(Handed(self.strips.kept(part, "line", turn.frame), (size,), (1,)))
            if after.waiting:
                waiting = (*shape[:ROWS], after.waiting)
                name = self.strips.kept(part, "wait", turn.frame)
                handed.append(Handed(name, waiting, strides_of(waiting)))
        return tuple(handed)

    def _hand(self, slot: int, turn: FrameStrip | None) -> Iterator[Call]:
        """Hand the next rank what its strip goes on with, and take what the one before hands."""
        count, index = self.rank.count, self.rank.index
        after, before = (index + 1) % count, (index - 1) % count
        coming = self.turn_of(before, slot)
        gives, takes = self._handed(turn), self._handed(coming)
        if not gives and not takes:
            return
        dtype = lines.dtype_of(self._setup.module().module)
        device, exchange = self._setup.around.device, self.exchange

        def run(values: Tensors) -> Tensors:
            made = {h.name: torch.empty_strided(h.shape, h.strides, dtype=dtype, device=device)
                    for h in takes}  # fmt: skip
            sends = [(after, values[handed.name]) for handed in gives]
            exchange.trade(sends, [(before, tensor) for tensor in made.values()])
            return made

        shapes = "-".join(str(math.prod(handed.shape)) for handed in takes)
        places = tuple(str(t.frame) for t in (turn, coming) if t is not None)
        reads = tuple(handed.name for handed in gives)
        yield Call(self.strips.kind(f"hand.{shapes}", 0), run, reads, places=places)

    def _put_together(self, frame: int) -> Iterator[Call]:
        """Give the first rank the rows of a chunk, uint8; it puts the chunk together and emits."""
        strips, exchange = self.strips, self.exchange
        rows = {strip: self._setup.own(f"rows@{strips.place(frame, strip)}")
                for strip in strips.finishing}  # fmt: skip
        own = [name for strip, name in rows.items() if strip in self.own]
        places = tuple(strips.place(frame, s) for s in rows if s in self.own)
        kind = min(frame, 1)
        if self.rank.index:

            def give(values: Tensors) -> Tensors:
                exchange.trade([(0, values[name]) for name in own], [])
                return {}

            if own:
                yield Call(strips.kind("give", kind), give, tuple(own), step=frame, places=places)
            return
        frames, device = self._setup.own("frames"), self._setup.around.device
        others = {strip: strips.rows_shape(strip, frame) for strip in rows if strip not in self.own}

        def emit(values: Tensors) -> Tensors:
            come = {strip: torch.empty(shape, dtype=torch.uint8, device=device)
                    for strip, shape in others.items()}  # fmt: skip
            exchange.trade([], [(s % self.rank.count, tensor) for s, tensor in come.items()])
            parts = [come[s] if s in come else values[name] for s, name in rows.items()]
            return {frames: torch.cat(parts, strips.row_axis)}

        yield Call(
            strips.kind("emit", kind), emit, tuple(own), step=frame, emits=True, places=places
        )


def shared_setting(setup: StageSetup, rank: Rank, exchange: Exchange) -> str:
    """Choose the strips that ranks are done with first, of not too many a rank."""
    shape = setup.around.latent_shape
    names = [s for s in settings(max(shape[3:])) if s.startswith("strips.")]
    ways = {name: SharedStrips(Strips(setup, name, shape), rank, exchange) for name in names}
    few = [name for name in names if ways[name].rounds <= _MOST_ROUNDS] or names[:1]
    return min(few, key=lambda name: ways[name].slots * ways[name].strips.rows)
