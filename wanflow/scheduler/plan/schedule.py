"""A plan: where everything lies at every call, what it predicts, and why. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs

from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.plan.arenas import Arena
from wanflow.scheduler.plan.prefetch import NO_CARRY, Carry
from wanflow.scheduler.plan.queues import QueueTimes
from wanflow.trace.events import Verb


@attrs.frozen
class TierMove:
    """A segment comes to the device (place: it stays; stream: for this use) or leaves it (free).

    `stage` and `step` are those it is for, which may come after the call at which the move begins.
    Spilled values come back (place) and leave (offload) by the same record: `values` has their
    numbers, and `segment` is a name for what moves at once. `offset_bytes` is a segment's place in
    its model's arena; None where it has a slab of its own. `carry` is for the run before or after.
    """

    verb: Verb
    segment: str
    nbytes: int
    stage: str
    step: int
    cause: str
    values: tuple[int, ...] = ()
    offset_bytes: int | None = None
    carry: Carry = NO_CARRY


def arena_key(model: str) -> str:
    """The ledger's key of a model's arena: of the bytes in it that no segment has."""
    return f"arena.{model}"


def arena_of(move: TierMove) -> str:
    """The ledger's key of the arena that a segment's bytes are taken out of, or ""."""
    return "" if move.offset_bytes is None else arena_key(move.segment.partition("/")[0])


@attrs.frozen
class Turn:
    """What happens around one call. `frees` are values and states by number.

    Order: the arenas `opens` are made; `brings` are started, for this call or for later ones; the
    call's own segment and values that come back for it are waited for; the gathered rows, the
    workspace, the call, its values, `drops`, `frees`, `spills`; the arenas `closes` are let go of.
    """

    brings: tuple[TierMove, ...]
    drops: tuple[TierMove, ...]
    frees: tuple[int, ...]
    spills: tuple[TierMove, ...] = ()
    opens: tuple[Arena, ...] = ()
    closes: tuple[Arena, ...] = ()


@attrs.frozen
class StagePlan:
    """What the plan says of one stage; bytes at its peak, seconds for all its steps."""

    stage: str
    op: str
    model: str | None
    steps: int
    peak_bytes: int
    seconds: float
    waiting_seconds: float
    weights_bytes: int
    resident_weights_bytes: int
    streamed_bytes: int
    spilled_bytes: int
    workspace_bytes: int
    segments: int
    resident_segments: int
    knobs: Mapping[str, str]
    why: str


@attrs.frozen
class Alternative:
    """A candidate that was considered: what it keeps, how far ahead it loads, what it costs."""

    knobs: Mapping[str, Mapping[str, str]]
    depth: int
    resident_bytes: int
    spilled_bytes: int
    peak_bytes: int
    seconds: float
    fits: bool


@attrs.frozen
class HostPlan:
    """The host's memory: `cached` segments stay there, the others pass through a ring of buffers.

    `ring_bytes` is the size of one buffer; `spills` how many buffers spilled values need, by their
    bytes; `nbytes` is all of it, `minimum_bytes` what it can't do without. `staging_bytes` are
    beside that: the buffer for reading tensors whose dtype changes, 0 where the device has it.
    """

    cached: frozenset[str]
    ring_bytes: int
    nbytes: int
    minimum_bytes: int
    spills: Mapping[int, int] = attrs.field(factory=dict)
    staging_bytes: int = 0


@attrs.frozen
class Plan:
    """The schedule of a footprint inside a budget.

    When `feasible` is false the turns are those of the smallest plan, which needs `minimum_bytes`;
    `minimum_cause` says what needs them. `slack_bytes` of the predicted peak are the allocator's
    rounding and fragments. `bound_seconds` is what the busiest of disk, copy and
    compute needs for this plan by itself. `depth` is how many loads may be ahead of the call that
    runs. `first_seconds` is what the first of several runs takes, which finds nothing that another
    one left there.
    """

    feasible: bool
    budget_bytes: int
    predicted_peak_bytes: int
    slack_bytes: int
    predicted_seconds: float
    first_seconds: float
    bound_seconds: float
    minimum_bytes: int
    minimum_cause: str
    minimum_stage: str
    resident_bytes: int
    depth: int
    host: HostPlan
    arenas: tuple[Arena, ...]
    stages: tuple[StagePlan, ...]
    turns: tuple[Turn, ...]
    timeline: QueueTimes
    alternatives: tuple[Alternative, ...]
    footprint: Footprint

    @property
    def finds(self) -> dict[str, int | None]:
        """The segments that the run before may have left, with their places in arenas."""
        first = self.turns[0].brings if self.turns else ()
        return {move.segment: move.offset_bytes for move in first if move.carry.comes}

    @property
    def carries(self) -> bool:
        """Whether it leaves weights for the next run."""
        return any(move.carry.stays for turn in self.turns for move in turn.drops)

    def as_last(self) -> Plan:
        """The same for a run that none comes after: nothing is loaded for it, nothing left."""
        turns = [
            attrs.evolve(
                turn,
                brings=tuple(move for move in turn.brings if not move.carry.ahead),
                drops=tuple(
                    attrs.evolve(move, carry=NO_CARRY)
                    for move in turn.drops
                    if not move.carry.ahead
                ),
            )
            for turn in self.turns
        ]
        return attrs.evolve(self, turns=tuple(turns))

    @property
    def knobs(self) -> Mapping[str, Mapping[str, str]]:
        """The chosen knobs of every stage."""
        return {facts.stage: facts.knobs for facts in self.footprint.stages}

    @property
    def plan_id(self) -> str:
        """A short hash of everything the plan decides."""
        text = json.dumps(
            [self.budget_bytes, self.knobs, self.turns], sort_keys=True, default=_as_plain
        )
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def transitions(self) -> list[dict[str, object]]:
        """Every move of weights and every free, in order, as `plan.json` keeps them."""
        values = {value.value: value for call in self.footprint.calls for value in call.makes}
        rows: list[dict[str, object]] = []
        for index, (turn, call) in enumerate(zip(self.turns, self.footprint.calls, strict=True)):
            row: dict[str, object] = {"call": index, "stage": call.stage, "kind": call.kind}
            row["step"] = call.step
            row["workspace_bytes"] = call.cost.workspace_bytes
            if turn.opens:
                row["opens"] = [[arena.model, arena.nbytes] for arena in turn.opens]
            if turn.brings:
                row["brings"] = [[m.verb, m.segment, m.nbytes, m.offset_bytes] for m in turn.brings]
            if turn.drops:
                row["drops"] = [[m.verb, m.segment, m.nbytes] for m in turn.drops]
            if turn.spills:
                row["spills"] = [[m.verb, m.nbytes, list(m.values)] for m in turn.spills]
            if turn.closes:
                row["closes"] = [arena.model for arena in turn.closes]
            if turn.frees:
                row["frees"] = [values[number].name for number in turn.frees]
            rows.append(row)
        return rows


def _as_plain(thing: Any) -> object:
    """What JSON has no form for: records as lists of their fields, mappings as dicts."""
    return attrs.astuple(thing, recurse=False) if attrs.has(type(thing)) else dict(thing)
