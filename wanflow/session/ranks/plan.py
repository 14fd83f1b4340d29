"""Plan several ranks: one plan a rank, at knobs that they have in common, and the fastest share."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
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
from wanflow.session.ranks.seat import divided_places, own_part, prepare_ranks
from wanflow.session.ranks.ways import (
    Pinned,
    Way,
    decode_shares,
    denoise_shares,
    pinned,
    waiting_share,
)
from wanflow.session.request import Request
from wanflow.stages.decode_ranks import FIRST, STRIPS
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

    @property
    def stages(self) -> set[str]:
        """The stages that it runs."""
        return {stage.stage for stage in self.planned.plan.stages}

    @property
    def decode_seconds(self) -> float:
        """How long it decodes."""
        ops = {stage.name: stage.op.name for stage in self.planned.prepared.graph.stages}
        stages = self.planned.plan.stages
        return sum(s.seconds for s in stages if ops[s.stage] == "decode_frames")

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
    """The plans of all ranks where they share in one way.

    While they decode they wait for each other for `waiting_share` of what that takes them.
    """

    way: Way
    ranks: tuple[RankPlan, ...]
    waiting_share: float

    @property
    def rounds(self) -> bool:
        """Whether bits depend on this way being taken: on a CPU rows have those of one device."""
        prepared = self.ranks[0].planned.prepared
        on_card = prepared.rank is not None and prepared.rank.kind != "cpu"
        return on_card or self.way.decode != FIRST

    @property
    def share(self) -> str:
        """How what denoises is shared."""
        return self.way.share

    @property
    def seconds(self) -> float:
        """Until the last of them is done."""
        return max(map(self.seconds_of, self.ranks))

    def seconds_of(self, rank: RankPlan) -> float:
        """Until a rank of it is done."""
        return self._ended(rank, rank.planned.plan.predicted_seconds)

    @property
    def least_seconds(self) -> float | None:
        """Until then if every step were skipped that may be; None where the plans know them."""
        return max(
            (
                self._ended(rank, cast("float", rank.planned.report["least_seconds"]))
                for rank in self.ranks
                if "least_seconds" in rank.planned.report
            ),
            default=None,
        )

    def _ended(self, rank: RankPlan, seconds: float) -> float:
        """So many seconds of its own, and what it waits for others."""
        return seconds + self.waiting_share * rank.decode_seconds

    @property
    def feasible(self) -> bool:
        """Whether every rank's plan fits."""
        return all(rank.planned.plan.feasible for rank in self.ranks)

    def row(self) -> dict[str, object]:
        """What a report says of it beside the others."""
        return {
            "share": self.share,
            "decode": self.way.decode,
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
    considered = _consider(prepared)
    chosen = _best(considered)
    report = _report(request, chosen, considered, _alone(prepared[0], found[0]))
    return RankedPlan(seats, chosen, tuple(considered), report)


def _consider(prepared: Sequence[Prepared]) -> list[SharedPlan]:
    """Plan each way to denoise, and with the best of them each further way to decode."""
    first, *others = decode_shares(prepared[0])
    plans = [_plan_way(prepared, Way(share, first)) for share in denoise_shares(prepared[0])]
    share = _best(plans).way.share
    return [*plans, *(_plan_way(prepared, Way(share, decode)) for decode in others)]


def _best(plans: Sequence[SharedPlan]) -> SharedPlan:
    """The one that fits and ends first; by figures on paper where bits depend on it.

    What rounds otherwise may not follow from what was measured or learned.
    """
    on_paper = any(plan.rounds for plan in plans) and len(plans) > 1
    seconds = _paper_seconds if on_paper else attrgetter("seconds")
    return min(plans, key=lambda plan: (not plan.feasible, seconds(plan)))


def _paper_seconds(plan: SharedPlan) -> float:
    """How long a way of sharing takes by what no measurement has decided."""
    slowest = max(plan.ranks, key=plan.seconds_of).planned
    prepared, machine = slowest.prepared, slowest.prepared.place.machine
    paper = attrs.evolve(as_on_paper(machine), exchange_rate=machine.exchange_rate)
    if paper.figures == machine.figures:
        return plan.seconds
    place = attrs.evolve(prepared.place, machine=paper)
    return plan.seconds_of(RankPlan(plan_prepared(attrs.evolve(prepared, place=place))))


def _alone(first: Prepared, place: Place) -> Planned:
    """Plan the whole on the first rank's device by itself."""
    pins = tuple(pin for pin in first.request.pins if f".{SHARE}=" not in pin)
    request = attrs.evolve(first.request, pins=pins)
    return plan_prepared(attrs.evolve(first, rank=None, request=request, place=place))


def _plan_way(ranks: Sequence[Prepared], way: Way) -> SharedPlan:
    """Plan every rank at one way, all at the knobs that the one with least room chooses."""
    pins = way.pins(ranks[0])
    parts = [own_part(_pinned(one, pins)) for one in ranks]
    shared = [outline.stage for outline in parts[-1].outlines]
    tightest = min(range(len(parts)), key=lambda index: (parts[index].place.usable_bytes, -index))
    lead = plan_prepared(parts[tightest])
    knobs = {stage: dict(lead.plan.knobs.get(stage, {})) for stage in shared}
    common = attrs.evolve(lead, prepared=_pinned(lead.prepared, knobs))
    plans: dict[object, Planned] = {_like(parts[tightest], way): common}
    for one in parts:
        key = _like(one, way)
        if key not in plans:
            plans[key] = plan_prepared(_pinned(one, knobs))
    waiting = waiting_share(ranks[0], Rank(0, len(ranks), ""), pins)
    return SharedPlan(way, tuple(RankPlan(plans[_like(one, way)]) for one in parts), waiting)


def _pinned(prepared: Prepared, pins: Pinned) -> Prepared:
    return attrs.evolve(prepared, request=pinned(prepared.request, pins))


def _like(prepared: Prepared, way: Way) -> object:
    """What decides a rank's plan: ranks that are alike in it have one in common."""
    rank, place = prepared.rank, prepared.place
    if rank is None:
        raise AssertionError("a rank is prepared as one")
    where = (place.machine.name, place.budget_bytes, place.device_name, rank.index == 0)
    if way.decode == STRIPS:  # no two ranks have the same strips
        return where, rank.index
    return where, _lengths(prepared, rank, way.share)


def _lengths(prepared: Prepared, rank: Rank, share: str) -> tuple[object, ...]:
    from wanflow.scheduler.profile.counted_exchange import CountedExchange
    from wanflow.stages.denoise import Denoise
    from wanflow.stages.noise import Noise

    exchange, programs = CountedExchange(rank.index), prepared.programs(None)
    noises = {one.stage: one.latent_shape for one in programs if isinstance(one, Noise)}

    def shape_of(program: Denoise) -> tuple[int, ...]:
        """That of the noise: with references it has more frames than the video."""
        noise = prepared.graph.noise_of(program.setup.bound)
        shape = program.setup.around.latent_shape
        return shape if noise is None else noises.get(noise.name, shape)

    denoising = [one for one in programs if isinstance(one, Denoise)]
    return tuple(one.work_of(rank, exchange, share, shape_of(one)) for one in denoising)


def _report(
    request: Request, chosen: SharedPlan, considered: Sequence[SharedPlan], alone: Planned
) -> dict[str, object]:
    first, least = chosen.ranks[0].planned.report, chosen.least_seconds
    return {
        **first,
        **({} if least is None else {"least_seconds": least}),
        "devices": request.devices,
        "feasible": chosen.feasible,
        "predicted_seconds": chosen.seconds,
        "share": chosen.share,
        "decode": chosen.way.decode,
        "shares": [plan.row() for plan in considered],
        "ranks": [rank.report(number) for number, rank in enumerate(chosen.ranks)],
        "alone": {
            name: alone.report[name]
            for name in ("feasible", "predicted_seconds", "predicted_peak_bytes", "minimum_bytes")
        },
    }
