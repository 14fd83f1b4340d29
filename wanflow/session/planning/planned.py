"""Plan a request: profile every setting of the knobs, plan, and say it as plain data."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from wanflow.errors import BudgetError
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.plan.gc_pause import held_off
from wanflow.scheduler.plan.schedule import Plan, StagePlan
from wanflow.session.planning.footprints import Variants
from wanflow.session.preparing.place import FindPlace, Place, find_place
from wanflow.session.preparing.prepared import Prepared, prepare
from wanflow.session.request import Request
from wanflow.units import format_bytes

_SWEEP_POINTS = 12


@attrs.frozen
class Planned:
    """A plan with everything needed to run it. `report` is what `plan --json` prints."""

    prepared: Prepared
    plan: Plan
    footprints: tuple[Footprint, ...]
    variants: Variants
    report: dict[str, object]

    @property
    def problem(self) -> BudgetError | None:
        """Why the plan can't be run, or None."""
        return None if self.plan.feasible else too_small(self.prepared.place, self.plan)


@held_off()
def plan(request: Request, *, on: FindPlace = find_place) -> Planned:
    """Plan without running: no weights and no GPU needed. *on* finds the place to plan for."""
    return plan_prepared(prepare(request, on(request), to_run=False))


@held_off()
def plan_prepared(prepared: Prepared) -> Planned:
    """Plan what was prepared."""
    variants = Variants(prepared)
    footprints = variants.at(prepared.place.usable_bytes)
    made = variants.plan(footprints, prepared.place.usable_bytes)
    return Planned(prepared, made, footprints, variants, _report(prepared, made))


def tightened(planned: Planned, share: float) -> Planned:
    """Plan the same again for *share* of what it takes, or the smallest plan where that is more."""
    room = int(planned.plan.predicted_peak_bytes * share)
    return attrs.evolve(planned, plan=replanned(planned, max(room, planned.plan.minimum_bytes)))


def replanned(planned: Planned, budget_bytes: int) -> Plan:
    """Plan the same again for other bytes on the device, the overhead not among them."""
    return planned.variants.plan(planned.footprints, budget_bytes)


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
        footprints = {id(f): f for f in (*planned.footprints, *planned.variants.at(budget))}
        made = planned.variants.plan(tuple(footprints.values()), budget)
        if best is not None and best.predicted_seconds < made.predicted_seconds:
            made = best  # what less room allows, more room allows
        best = made
        rows.append(
            {
                "budget_bytes": budget + overhead,
                "predicted_peak_bytes": made.predicted_peak_bytes + overhead,
                "predicted_seconds": made.predicted_seconds,
                "feasible": made.feasible,
            }
        )
    return attrs.evolve(planned, report={**planned.report, "sweep": rows})


def host_bytes(made: Plan) -> int:
    """What the plan takes of the host, 0 where the device is the RAM itself."""
    return made.host.nbytes + made.footprint.staging_bytes if made.host.nbytes else 0


def gap_percent(made: Plan) -> float:
    """How much longer the plan takes than its busiest queue would alone."""
    return 100 * (made.predicted_seconds / made.bound_seconds - 1) if made.bound_seconds else 0.0


def too_small(place: Place, made: Plan) -> BudgetError:
    """Say that a place can't hold a plan, and what could."""
    least = made.minimum_bytes + place.overhead_bytes
    ram = made.host.minimum_bytes + made.footprint.staging_bytes
    if made.minimum_bytes <= place.usable_bytes and place.ram_bytes is not None:
        return BudgetError(
            f"the host's {place.ram_bytes} bytes can't hold it: at least {ram} bytes "
            f"({format_bytes(ram)}) are needed, for the buffers that weights pass through",
            hint=f"--ram {ram}B",
            code="ram-budget",
            detail={"minimum_ram_bytes": ram, "ram_bytes": place.ram_bytes},
        )
    return BudgetError(
        f"{place.budget_text} ({place.budget_bytes} bytes) can't hold it: at least {least} bytes "
        f"({format_bytes(least)}) are needed, by {made.minimum_cause}",
        hint=f"--vram {least}B, a smaller size or fewer frames",
        code="budget",
        detail={
            "minimum_bytes": least,
            "budget_bytes": place.budget_bytes,
            "needed_by": made.minimum_cause,
        },
    )


def _report(prepared: Prepared, made: Plan) -> dict[str, object]:
    place = prepared.place
    return {
        "feasible": made.feasible,
        "graph": prepared.graph.name,
        "device": str(place.device) if not prepared.request.machine else place.machine.device,
        "exact": prepared.request.exact,
        "weights": {n: m.folder is not None for n, m in prepared.models.items()},
        **plan_figures(place, made),
    }


def plan_figures(place: Place, made: Plan) -> dict[str, object]:
    """What the report says of a plan on a machine, whatever was planned."""
    overhead = place.overhead_bytes
    return {
        "machine": place.machine.name,
        "estimates": place.machine.estimated,
        "machine_sources": {n: place.machine.source(n) for n in place.machine.matters},
        "machine_guessed_from": place.machine.guessed_from or None,
        "budget_bytes": place.budget_bytes,
        "overhead_bytes": overhead,
        "predicted_peak_bytes": made.predicted_peak_bytes + overhead,
        "allocator_slack_bytes": made.slack_bytes,
        "arenas": {arena.model: arena.nbytes for arena in made.arenas},
        "predicted_seconds": made.predicted_seconds,
        "bound_seconds": made.bound_seconds,
        "gap_percent": gap_percent(made),
        "depth": made.depth,
        "ram_bytes": place.ram_bytes,
        "host_bytes": host_bytes(made),
        "minimum_bytes": made.minimum_bytes + overhead,
        "minimum_cause": made.minimum_cause,
        "resident_bytes": made.resident_bytes + overhead,
        "plan_id": made.plan_id,
        "stages": [_stage_report(stage, overhead) for stage in made.stages],
    }


def _stage_report(stage: StagePlan, overhead_bytes: int) -> Mapping[str, object]:
    report = attrs.asdict(stage)
    report["knobs"] = dict(stage.knobs)
    report["peak_bytes"] = stage.peak_bytes + overhead_bytes
    return report
