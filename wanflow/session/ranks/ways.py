"""The ways in which ranks may share: what denoises, and the strips that frames are decoded in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from wanflow.errors import InputError
from wanflow.scheduler.knobs import ProgramOutline
from wanflow.scheduler.ranks import Rank
from wanflow.session.preparing.prepared import Prepared
from wanflow.session.request import Request, pairs
from wanflow.stages.decode_ranks import FIRST, STRIPS
from wanflow.stages.denoise_ranks import SHARE, worth_planning

Pinned = Mapping[str, Mapping[str, str]]  # values of knobs, by stage
_DENOISE, _DECODE, _CUT = "denoise", "decode_frames", "strips"


@attrs.frozen
class Way:
    """A value of the knob `share` for the stages that denoise, and one for those that decode."""

    share: str
    decode: str = FIRST

    def pins(self, first: Prepared) -> Pinned:
        """What it pins of each stage, where nothing else is pinned."""
        pins: dict[str, dict[str, str]] = {}
        for outline in _sharing(first, _DENOISE):
            pins[outline.stage] = {SHARE: self.share}
        for outline in _sharing(first, _DECODE):
            pins[outline.stage] = {SHARE: self.decode}
            if self.decode == STRIPS:
                pins[outline.stage][_CUT] = _cut(first, outline.stage)
        return pins


def pinned(request: Request, pins: Pinned) -> Request:
    """Pin these knobs in a request, where nothing else is pinned."""
    given = pairs(request.pins, "--pin", "STAGE.KNOB=VALUE")
    more = [
        f"{stage}.{name}={value}"
        for stage, values in pins.items()
        for name, value in values.items()
        if f"{stage}.{name}" not in given
    ]
    return attrs.evolve(request, pins=(*request.pins, *more))


def is_way_to_denoise(pin: str) -> bool:
    """Whether a pin says how ranks share what they denoise: not every number of them can."""
    knob, _, value = pin.partition("=")
    return knob.endswith(f".{SHARE}") and value not in (FIRST, STRIPS)


def is_decoded_by_all(request: Request, stage: str) -> bool:
    """Whether a request pins that all ranks decode in a stage."""
    return pairs(request.pins, "--pin", "STAGE.KNOB=VALUE").get(f"{stage}.{SHARE}") == STRIPS


def denoise_shares(first: Prepared) -> list[str]:
    """The values that every stage which denoises has, and that pins and exactness leave."""
    left = _left(first, _DENOISE)
    if not left:
        raise InputError(
            "--devices: no way of sharing is left that all stages have",
            hint="leave --exact or a --pin STAGE.share out",
            code="nothing-shared",
        )
    return worth_planning(left, first.rank.count if first.rank is not None else 1)


def decode_shares(first: Prepared) -> list[str]:
    """The same of those that decode; the first rank alone where there is no choice."""
    left = _left(first, _DECODE)
    if FIRST in left and first.rank is not None and first.rank.count == 1:
        return [FIRST]
    whole = [f"{stage}.{name}={cut}" for (stage, name), cut in first.knob_pins().items()
             if name == _CUT and not cut.startswith("strips.")
             and first.graph.stage(stage).op.name == _DECODE]  # fmt: skip
    if STRIPS not in left or not whole:
        return left or [FIRST]
    if left == [STRIPS]:
        raise InputError(
            f"--pin {whole[0]}: ranks share frames in strips of the order `strips`",
            hint="leave it out, or pin strips.N",
            code="shared-whole",
        )
    return [value for value in left if value != STRIPS]


def waiting_share(first: Prepared, rank: Rank, pins: Pinned) -> float:
    """How long ranks wait for each other while they decode, as a part of what that takes them."""
    from wanflow.scheduler.profile.counted_exchange import CountedExchange
    from wanflow.stages.decode_frames import DecodeFrames

    exchange = CountedExchange(rank.index)
    shares = [
        program.waiting_share(rank, exchange, pins[program.stage][_CUT])
        for program in first.programs(None)
        if isinstance(program, DecodeFrames) and _CUT in pins.get(program.stage, {})
    ]
    return max(shares, default=0.0)


def _sharing(first: Prepared, op: str) -> Iterator[ProgramOutline]:
    for outline in first.outlines:
        has_knob = any(knob.name == SHARE for knob in outline.knobs)
        if has_knob and first.graph.stage(outline.stage).op.name == op:
            yield outline


def _left(first: Prepared, op: str) -> list[str]:
    left: list[str] | None = None
    for outline in _sharing(first, op):
        knob = next(knob for knob in outline.knobs if knob.name == SHARE)
        asked = first.knob_pins().get((outline.stage, SHARE))
        own = [
            value
            for value, mark in knob.choices.items()
            if asked in (None, value) and (mark == "bitwise" or not first.request.exact)
        ]
        left = own if left is None else [value for value in left if value in own]
    return left or []


def _cut(first: Prepared, stage: str) -> str:
    """How a stage cuts frames: as it is pinned, or by what its ranks are done with first."""
    from wanflow.scheduler.profile.counted_exchange import CountedExchange
    from wanflow.stages.decode_frames import DecodeFrames

    asked = first.knob_pins().get((stage, _CUT))
    if asked is not None:
        return asked
    program = next(p for p in first.programs(None) if p.stage == stage)
    if first.rank is None or not isinstance(program, DecodeFrames):
        raise AssertionError(f"{stage} is no stage that ranks decode in")
    return program.shared_setting(first.rank, CountedExchange(first.rank.index))
