"""Plan several ranks: one plan a rank, at knobs that they have in common, and the fastest share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import attrs

from wanflow.errors import BudgetError, InputError
from wanflow.scheduler.machine.datasheets import as_on_paper
from wanflow.scheduler.plan.gc_pause import held_off
from wanflow.scheduler.ranks import Rank
from wanflow.session.planning.planned import Planned, plan_prepared, too_small
from wanflow.session.preparing.place import FindPlace, Place
from wanflow.session.preparing.prepared import Prepared
from wanflow.session.probing.first_probe import probed_place
from wanflow.session.ranks.devices import Seats, parse_devices
from wanflow.session.ranks.seat import divided_places, prepare_ranks
from wanflow.session.request import Request
from wanflow.stages.denoise_ranks import SHARE

_OF_A_STAGE = ("stage", "peak_bytes", "seconds", "waiting_seconds", "knobs")


@attrs.frozen
class RankPlan:
    """A rank's plan, and what of its time is spent on exchanges."""

    planned: Planned

    @property
    def exchanged_bytes(self) -> int:
        """What it is sent in all."""
        return sum(call.cost.exchanged_bytes for call in self.planned.plan.footprint.calls)

    @property
    def exchange_seconds(self) -> float:
        """How long that takes, of its predicted time."""
        machine = self.planned.prepared.place.machine
        costs = [call.cost for call in self.planned.plan.footprint.calls]
        exchanges = sum(cost.exchanges for cost in costs)
        return machine.exchanging_seconds(self.exchanged_bytes, exchanges)

    def report(self, rank: int) -> dict[str, object]:
        """What the report says of it."""
        report = self.planned.report
        names = (
            "device", "machine", "feasible", "budget_bytes", "overhead_bytes",
            "predicted_peak_bytes", "minimum_bytes", "predicted_seconds", "plan_id",
        )  # fmt: skip
        stages = cast("list[dict[str, object]]", report["stages"])
        return {
            "rank": rank,
            **{name: report[name] for name in names},
            "exchanged_bytes": self.exchanged_bytes,
            "exchange_seconds": self.exchange_seconds,
            "stages": [{n: row[n] for n in _OF_A_STAGE} for row in stages],
        }


@attrs.frozen
class SharedPlan:
    """The plans of all ranks where they share in one way."""

    share: str
    ranks: tuple[RankPlan, ...]

    @property
    def seconds(self) -> float:
        """Until the last of them is done."""
        return max(rank.planned.plan.predicted_seconds for rank in self.ranks)

    @property
    def feasible(self) -> bool:
        """Whether every rank's plan fits."""
        return all(rank.planned.plan.feasible for rank in self.ranks)

    def row(self) -> dict[str, object]:
        """What a report says of it beside the others."""
        return {
            "share": self.share,
            "feasible": self.feasible,
            "predicted_seconds": self.seconds,
            "exchanged_bytes": max(rank.exchanged_bytes for rank in self.ranks),
            "exchange_seconds": max(rank.exchange_seconds for rank in self.ranks),
        }


@attrs.frozen
class RankedPlan:
    """The plan of a request on several devices. `report` is what `plan --json` prints."""

    seats: Seats
    chosen: SharedPlan
    considered: tuple[SharedPlan, ...]
    report: dict[str, object]

    @property
    def first(self) -> Planned:
        """Rank 0's plan: it runs the whole graph and writes."""
        return self.chosen.ranks[0].planned

    @property
    def problem(self) -> BudgetError | None:
        """Why it can't be run, or None."""
        for number, rank in enumerate(self.chosen.ranks):
            if not rank.planned.plan.feasible:
                error = too_small(rank.planned.prepared.place, rank.planned.plan)
                error.message = f"rank {number}: {error.message}"
                return error
        return None


@held_off()
def plan_ranks(
    request: Request, *, on: FindPlace = probed_place, to_run: bool = False
) -> RankedPlan:
    """Plan a request that names devices; the share with the earliest end is taken."""
    seats = parse_devices(request)
    if to_run and not seats.is_here:
        raise InputError(
            f"--devices {request.devices}: named machines are for planning",
            hint="cuda:0,cuda:1 or cpu*2",
            code="machine-in-run",
        )
    found = [on(one) for one in seats.requests]
    prepared = prepare_ranks(seats, divided_places(seats, found), to_run=to_run)
    considered = [_plan_share(prepared, share) for share in _shares(prepared[0])]
    chosen = min(considered, key=lambda plan: (not plan.feasible, _paper_seconds(plan)))
    report = _report(request, chosen, considered, _alone(prepared[0], found[0]))
    return RankedPlan(seats, chosen, tuple(considered), report)


def _paper_seconds(plan: SharedPlan) -> float:
    """How long a way of sharing takes by what no measurement has decided.

    One of them rounds on a card: which is taken may not follow from what was measured or learned.
    """
    slowest = max(plan.ranks, key=lambda rank: rank.planned.plan.predicted_seconds).planned
    prepared, machine = slowest.prepared, slowest.prepared.place.machine
    paper = attrs.evolve(as_on_paper(machine), exchange_rate=machine.exchange_rate)
    if machine.device == "cpu" or paper.figures == machine.figures:
        return plan.seconds
    place = attrs.evolve(prepared.place, machine=paper)
    return plan_prepared(attrs.evolve(prepared, place=place)).plan.predicted_seconds


def _alone(first: Prepared, place: Place) -> Planned:
    """Plan the whole on the first rank's device by itself."""
    pins = tuple(pin for pin in first.request.pins if f".{SHARE}=" not in pin)
    request = attrs.evolve(first.request, pins=pins)
    return plan_prepared(attrs.evolve(first, rank=None, request=request, place=place))


def _shares(first: Prepared) -> list[str]:
    """The ways of sharing that every stage has which has one, and that pins and exactness leave."""
    left: list[str] | None = None
    for outline in first.outlines:
        knob = next((knob for knob in outline.knobs if knob.name == SHARE), None)
        if knob is None:
            continue
        pinned = first.knob_pins().get((outline.stage, SHARE))
        own = [
            value
            for value, mark in knob.choices.items()
            if pinned in (None, value) and (mark == "bitwise" or not first.request.exact)
        ]
        left = own if left is None else [value for value in left if value in own]
    if not left:
        raise InputError(
            "--devices: no way of sharing is left that all stages have",
            hint="leave --exact or a --pin STAGE.share out",
            code="nothing-shared",
        )
    return left


def _plan_share(ranks: Sequence[Prepared], share: str) -> SharedPlan:
    """Plan every rank at one share, all at the knobs that the one with least room chooses."""
    shared = [outline.stage for outline in ranks[-1].outlines]
    pinned = [_pinned(one, {s: {SHARE: share} for s in _sharing(one)}) for one in ranks]
    tightest = min(range(len(ranks)), key=lambda index: (ranks[index].place.usable_bytes, -index))
    lead = plan_prepared(pinned[tightest])
    knobs = {stage: dict(lead.plan.knobs.get(stage, {})) for stage in shared}
    common = attrs.evolve(lead, prepared=_pinned(lead.prepared, knobs))
    plans: dict[object, Planned] = {_like(pinned[tightest], share): common}
    for one in pinned:
        key = _like(one, share)
        if key not in plans:
            plans[key] = plan_prepared(_pinned(one, knobs))
    return SharedPlan(share, tuple(RankPlan(plans[_like(one, share)]) for one in pinned))


def _sharing(prepared: Prepared) -> list[str]:
    return [o.stage for o in prepared.outlines if any(k.name == SHARE for k in o.knobs)]


def _pinned(prepared: Prepared, knobs: Mapping[str, Mapping[str, str]]) -> Prepared:
    """Pin these knobs, where nothing else is pinned."""
    there = prepared.knob_pins()
    pins = [
        f"{stage}.{name}={value}"
        for stage, values in knobs.items()
        for name, value in values.items()
        if (stage, name) not in there
    ]
    request = attrs.evolve(prepared.request, pins=(*prepared.request.pins, *pins))
    return attrs.evolve(prepared, request=request)


def _like(prepared: Prepared, share: str) -> object:
    """What decides a rank's plan: ranks that are alike in it have one in common."""
    rank, place = prepared.rank, prepared.place
    if rank is None:
        raise AssertionError("a rank is prepared as one")
    where = (place.machine.name, place.budget_bytes, place.device_name, rank.index == 0)
    return where, _lengths(prepared, rank, share)


def _lengths(prepared: Prepared, rank: Rank, share: str) -> tuple[object, ...]:
    from wanflow.scheduler.profile.counted_exchange import CountedExchange
    from wanflow.stages.denoise import Denoise

    exchange = CountedExchange(rank.index)
    return tuple(
        program.work_of(rank, exchange, share)
        for program in prepared.programs(None)
        if isinstance(program, Denoise)
    )


def _report(
    request: Request, chosen: SharedPlan, considered: Sequence[SharedPlan], alone: Planned
) -> dict[str, object]:
    first = chosen.ranks[0].planned.report
    return {
        **first,
        "devices": request.devices,
        "feasible": chosen.feasible,
        "predicted_seconds": chosen.seconds,
        "share": chosen.share,
        "shares": [plan.row() for plan in considered],
        "ranks": [rank.report(number) for number, rank in enumerate(chosen.ranks)],
        "alone": {
            name: alone.report[name]
            for name in ("feasible", "predicted_seconds", "predicted_peak_bytes", "minimum_bytes")
        },
    }
