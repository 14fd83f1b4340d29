"""Explain a plan on several devices: what exchanges cost, and when one device is faster."""

from __future__ import annotations

from typing import cast

import attrs

from wanflow.errors import BudgetError
from wanflow.session.preparing.place import FindPlace
from wanflow.session.probing.first_probe import probed_place
from wanflow.session.ranks.plan import RankedPlan, RankPlan, SharedPlan, plan_ranks
from wanflow.session.request import Request


@attrs.frozen
class ExplainedRanks:
    """Why a stage is shared as it is. `report` is what `explain --json` prints."""

    report: dict[str, object]
    problem: BudgetError | None


def explain_ranks(request: Request, stage: str, *, on: FindPlace = probed_place) -> ExplainedRanks:
    """Explain *stage* in the plan of *request*; InputError when the graph has no such stage."""
    planned = plan_ranks(request, on=on)
    planned.first.prepared.graph.stage(stage)
    alone = cast("dict[str, float]", planned.report["alone"])
    shares = [_share(plan, stage, alone["predicted_seconds"]) for plan in planned.considered]
    report: dict[str, object] = {
        **{name: planned.report[name] for name in ("graph", "devices", "machine", "feasible")},
        "stage": stage,
        "share": planned.chosen.share,
        "decode": planned.chosen.way.decode,
        "shares": shares,
        "alone": alone,
        "why": _why(planned, alone),
    }
    return ExplainedRanks(report, planned.problem)


def _share(plan: SharedPlan, stage: str, alone_seconds: float) -> dict[str, object]:
    """What a way of sharing a stage takes, by the rank that takes longest."""
    doing = [rank for rank in plan.ranks if stage in rank.stages]
    slowest = max(doing, key=plan.seconds_of)
    costs = [c.cost for c in slowest.planned.plan.footprint.calls if c.stage == stage]
    machine = slowest.planned.prepared.place.machine
    exchanged = sum(cost.exchanged_bytes for cost in costs)
    exchanges = sum(cost.exchanges for cost in costs)
    seconds = machine.exchanging_seconds(exchanged, exchanges)
    of_stage = next(s.seconds for s in slowest.planned.plan.stages if s.stage == stage)
    return {
        "share": plan.share,
        "decode": plan.way.decode,
        "feasible": plan.feasible,
        "predicted_seconds": plan.seconds,
        "stage_seconds": of_stage,
        "exchanges": exchanges,
        "exchanged_bytes": exchanged,
        "exchange_seconds": seconds,
        "exchange_rate": machine.exchange_rate,
        "even_rate": _even_rate(slowest, plan.seconds, alone_seconds),
    }


def _even_rate(rank: RankPlan, seconds: float, alone_seconds: float) -> float | None:
    """The link's bytes/s below which one device is as fast; None where no link would do."""
    machine = rank.planned.prepared.place.machine
    carried = rank.exchanged_bytes / machine.exchange_rate
    room = alone_seconds - (seconds - carried)
    return rank.exchanged_bytes / room if room > 0 else None


def _why(planned: RankedPlan, alone: dict[str, float]) -> str:
    chosen = planned.chosen
    if not chosen.feasible:
        return "no way of sharing fits"
    if not alone["feasible"]:
        return "one device's budget can't hold it"
    if chosen.seconds >= alone["predicted_seconds"]:
        return "one device by itself is faster"
    others = [plan for plan in planned.considered if plan is not chosen]
    if not others:
        return "the one way of sharing that is left"
    return "the fastest of the ways that fit"
