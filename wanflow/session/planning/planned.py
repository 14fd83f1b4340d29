"""Plan a request: profile every setting of the knobs, plan, and say it as plain data."""

from __future__ import annotations

from typing import cast

import attrs

from wanflow.errors import BudgetError, InputError
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.machine.datasheets import published_error
from wanflow.scheduler.plan.gc_pause import held_off
from wanflow.scheduler.plan.schedule import Plan, StagePlan
from wanflow.session.planning.caches import cache_reports, least_plan
from wanflow.session.planning.cut_prompts import cut_prompts
from wanflow.session.planning.footprints import KnobSearch
from wanflow.session.planning.previews import preview_reports
from wanflow.session.preparing.input_files import absent, notes_of
from wanflow.session.preparing.place import FindPlace, Place
from wanflow.session.preparing.prepare import prepare
from wanflow.session.preparing.prepared import Prepared
from wanflow.session.probing.first_probe import probed_place
from wanflow.session.request import Request
from wanflow.units import format_bytes

_SWEEP_POINTS = 12


@attrs.frozen
class Planned:
    """A plan with everything needed to run it. `report` is what `plan --json` prints."""

    prepared: Prepared
    plan: Plan
    footprints: tuple[Footprint, ...]
    search: KnobSearch
    report: dict[str, object]

    @property
    def problem(self) -> BudgetError | None:
        """Why the plan can't be run, or None."""
        return None if self.plan.feasible else too_small(self.prepared.place, self.plan)


@held_off()
def plan(request: Request, *, on: FindPlace = probed_place) -> Planned:
    """Plan without running: no weights and no GPU needed. *on* finds the place to plan for."""
    if request.devices:
        raise InputError(
            f"{request.devices}: several devices have a plan each",
            hint="wanflow.session.plan_ranks",
            code="several-devices",
        )
    return plan_prepared(prepare(request, on(request), to_run=False))


@held_off()
def plan_prepared(prepared: Prepared) -> Planned:
    """Plan what was prepared."""
    search = KnobSearch(prepared)
    footprints = search.at(prepared.place.usable_bytes)
    plan = search.plan(footprints, prepared.place.usable_bytes)
    report = _report(prepared, plan)
    _say_caches(report, prepared, plan, least_plan(prepared, search, plan))
    _say_previews(report, plan)
    return Planned(prepared, plan, footprints, search, report)


def _say_caches(
    report: dict[str, object], prepared: Prepared, plan: Plan, least: Plan | None
) -> None:
    """Say of each stage with a step cache what it leaves out, and of the whole how it may vary."""
    caches = cache_reports(prepared, plan, least)
    for row in cast("list[dict[str, object]]", report["stages"]):
        if row["stage"] in caches:
            row["cache"] = caches[str(row["stage"])]
    if least is not None:
        report["least_seconds"] = least.predicted_seconds


def _say_previews(report: dict[str, object], plan: Plan) -> None:
    """Say of each stage with previews what they take."""
    previews = preview_reports(plan)
    for row in cast("list[dict[str, object]]", report["stages"]):
        if row["stage"] in previews:
            row["previews"] = previews[str(row["stage"])]


def tightened(planned: Planned, share: float, host_share: float) -> Planned:
    """Plan the same again for shares of what it takes of the device and of the host.

    The smallest plan where that is more; a share of 1 is the request's budget.
    """
    plan, place = planned.plan, planned.prepared.place
    room, ram = place.usable_bytes, place.ram_bytes
    if share < 1:
        room = max(int(plan.predicted_peak_bytes * share), plan.minimum_bytes)
    if host_share < 1:
        least = plan.host.minimum_bytes + plan.footprint.staging_bytes
        ram = max(int(host_bytes(plan) * host_share), least)
    smaller = planned.search.plan(planned.footprints, room, ram)
    if not smaller.feasible:  # what leaves the device needs the host
        smaller = replanned(planned, room)
    return attrs.evolve(planned, plan=smaller)


def replanned(planned: Planned, budget_bytes: int) -> Plan:
    """Plan the same again for other bytes on the device, the overhead not among them."""
    return planned.search.plan(planned.footprints, budget_bytes)


def at_budget(planned: Planned, budget_bytes: int) -> Plan:
    """Plan the same for another budget, the knob settings that may win there among it."""
    footprints = {id(f): f for f in (*planned.search.at(budget_bytes), *planned.footprints)}
    return planned.search.plan(tuple(footprints.values()), budget_bytes)


@held_off()
def sweep(request: Request) -> Planned:
    """Plan at budgets from the minimum to where everything stays; the report has `sweep`."""
    planned = plan(request)
    overhead = planned.prepared.place.overhead_bytes
    low, high = planned.plan.minimum_bytes, planned.plan.resident_bytes
    gaps = _SWEEP_POINTS - 1
    budgets = sorted({low + (high - low) * i // gaps for i in range(_SWEEP_POINTS)})
    rows: list[dict[str, object]] = []
    best: Plan | None = None
    for budget in budgets:
        new = at_budget(planned, budget)
        if best is None or new.predicted_seconds <= best.predicted_seconds:
            best = new  # else what less room allows, more room allows
        rows.append(
            {
                "budget_bytes": budget + overhead,
                "predicted_peak_bytes": best.predicted_peak_bytes + overhead,
                "predicted_seconds": best.predicted_seconds,
                "feasible": best.feasible,
            }
        )
    return attrs.evolve(planned, report={**planned.report, "sweep": rows})


def host_bytes(plan: Plan) -> int:
    """What the plan takes of the host, 0 where the device is the RAM itself."""
    return plan.host.nbytes + plan.footprint.staging_bytes if plan.host.nbytes else 0


def gap_percent(plan: Plan) -> float:
    """How much longer the plan takes than its busiest queue would alone."""
    return 100 * (plan.predicted_seconds / plan.bound_seconds - 1) if plan.bound_seconds else 0.0


def too_small(place: Place, plan: Plan) -> BudgetError:
    """Say that a place can't hold a plan, and what could."""
    least = plan.minimum_bytes + place.overhead_bytes
    ram = plan.host.minimum_bytes + plan.footprint.staging_bytes
    if plan.minimum_bytes <= place.usable_bytes and place.ram_bytes is not None:
        return BudgetError(
            f"the host's {place.ram_bytes} bytes can't hold it: at least {ram} bytes "
            f"({format_bytes(ram)}) are needed, for the buffers that weights pass through",
            hint=f"--ram {ram}B",
            code="ram-budget",
            detail={"minimum_ram_bytes": ram, "ram_bytes": place.ram_bytes},
        )
    return BudgetError(
        f"{place.budget_text} ({place.budget_bytes} bytes) can't hold it: at least {least} bytes "
        f"({format_bytes(least)}) are needed, by {plan.minimum_cause}",
        hint=f"--vram {least}B, a smaller size or fewer frames",
        code="budget",
        detail={
            "minimum_bytes": least,
            "budget_bytes": place.budget_bytes,
            "needed_by": plan.minimum_cause,
        },
    )


def _report(prepared: Prepared, plan: Plan) -> dict[str, object]:
    place = prepared.place
    return {
        "feasible": plan.feasible,
        "graph": prepared.graph.name,
        "device": place.device_name if not prepared.request.machine else place.machine.device,
        "exact": prepared.request.exact,
        "cut_prompts": cut_prompts(prepared),
        "weights": {n: m.folder is not None for n, m in prepared.models.items()},
        "notes": [
            *place.notes,
            *prepared.notes,
            *notes_of(prepared.graph.inputs, prepared.opened),
            *absent(prepared.files, prepared.request.inputs, prepared.opened),
        ],
        **plan_figures(place, plan),
    }


def plan_figures(place: Place, plan: Plan) -> dict[str, object]:
    """What the report says of a plan on a machine, whatever was planned."""
    overhead = place.overhead_bytes
    return {
        "machine": place.machine.name,
        "estimates": place.machine.estimated,
        "machine_sources": {n: place.machine.source(n) for n in place.machine.matters},
        "machine_guessed_from": place.machine.guessed_from or None,
        "expandable_segments": place.expandable if place.machine.device == "cuda" else None,
        "pinned_memory": place.pinned if place.machine.device == "cuda" else None,
        "published_error_percent": published_error(place.machine),
        "budget_bytes": place.budget_bytes,
        "limited_by": place.limited_by or None,
        "overhead_bytes": overhead,
        "predicted_peak_bytes": plan.predicted_peak_bytes + overhead,
        "allocator_slack_bytes": plan.slack_bytes,
        "arenas": {arena.model: arena.nbytes for arena in plan.arenas},
        "predicted_seconds": plan.predicted_seconds,
        "bound_seconds": plan.bound_seconds,
        "gap_percent": gap_percent(plan),
        "depth": plan.depth,
        "ram_bytes": place.ram_bytes,
        "host_bytes": host_bytes(plan),
        "minimum_bytes": plan.minimum_bytes + overhead,
        "minimum_cause": plan.minimum_cause,
        "resident_bytes": plan.resident_bytes + overhead,
        "plan_id": plan.plan_id,
        "rounding": [
            f"{stage}.{knob}={value}" for stage, knob, value in sorted(plan.footprint.rounding)
        ],
        "stages": [stage_report(stage, overhead) for stage in plan.stages],
    }


def stage_report(stage: StagePlan, overhead_bytes: int) -> dict[str, object]:
    """What the report says of a stage."""
    report = attrs.asdict(stage)
    report["knobs"] = dict(stage.knobs)
    report["peak_bytes"] = stage.peak_bytes + overhead_bytes
    return report
