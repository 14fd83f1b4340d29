"""Plan a recorded run again on another budget or machine: from its trace, no graph, no weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from wanflow.errors import BudgetError, InputError
from wanflow.scheduler.machine.call_times import CallTimes, MeasuredTimes, Timing, by_rates
from wanflow.scheduler.machine.store import find
from wanflow.scheduler.plan.planner import plan as plan_footprints
from wanflow.scheduler.plan.schedule import Plan
from wanflow.session.planning.footprints import ram_for
from wanflow.session.planning.planned import plan_figures, too_small
from wanflow.session.planning.record import Collector, Recorded
from wanflow.session.preparing.place import Place, place_on
from wanflow.session.request import Request
from wanflow.trace import TraceFile, TraceReader
from wanflow.trace.events import FootprintRows


@attrs.frozen
class Replayed:
    """A run planned again. `report` is what `trace replay --json` prints."""

    plan: Plan
    report: dict[str, object]
    problem: BudgetError | None


@attrs.frozen
class _RecordedRun:
    """What a trace holds of its run."""

    recorded: Recorded
    file: TraceFile
    last_ns: int
    measured: MeasuredTimes


def replay(
    trace: Path, *, vram: str | None = None, ram: str | None = None, machine: str | None = None
) -> Replayed:
    """Plan what *trace* recorded for another budget, or on another *machine* of the same kind.

    None stands for the recorded budget; on another machine for what `auto` does. TraceError when
    the trace holds no whole footprint, InputError for what can't be meant.
    """
    run = _read(trace)
    recorded = run.recorded
    place = _place(recorded, trace, vram, ram, machine)
    timed = _is_timed(run.file.header, recorded) and run.measured.calls > 0
    timing: Timing = run.measured if timed else by_rates
    plan = plan_footprints(
        recorded.variants, place.machine, place.usable_bytes, recorded.pins,
        ram_for(recorded.variants, place.ram_bytes), recorded.spills, timing,
        spare_disk=recorded.ram_is_stated if ram is None else place.ram_is_stated,
    )  # fmt: skip
    problem = None if plan.feasible else too_small(place, plan)
    return Replayed(plan, _report(run, place, plan, timed=timed), problem)


def _read(trace: Path) -> _RecordedRun:
    """Read a trace through; the events themselves are not kept."""
    collector, times = Collector(str(trace)), CallTimes()
    last_ns = 0
    with TraceReader(trace) as reader:
        for event in reader:
            if isinstance(event, FootprintRows):
                collector.take(event)
                continue
            times.hear(event)
            last_ns = max(last_ns, getattr(event, "ended_ns", 0), getattr(event, "at_ns", 0))
        file = reader.info()
    recorded = collector.recorded()
    ran = recorded.variants[recorded.ran]
    seconds = times.seconds_of(ran, runs_ahead=recorded.machine.device == "cuda")
    measured = MeasuredTimes(ran, recorded.machine, seconds)
    return _RecordedRun(recorded, file, last_ns, measured)


def _is_timed(header: Mapping[str, Any], recorded: Recorded) -> bool:
    """Whether calls have the times that they took: of a card they once had those of the host."""
    on_device = recorded.machine.device == "cpu" or header.get("device_times") is True
    return header.get("simulated") is False and on_device


def _place(
    recorded: Recorded, trace: Path, vram: str | None, ram: str | None, machine: str | None
) -> Place:
    target = recorded.machine if machine is None else find(machine)
    if target.device != recorded.machine.device:
        raise InputError(
            f"{trace} was recorded for {_kind(recorded.machine.device)}, {target.name} is "
            f"{_kind(target.device)}: what a call takes there is not in it",
            hint=f"wanflow plan GRAPH --machine {target.name}",
            code="other-device",
        )
    if machine is None:
        vram = vram or f"{recorded.budget_bytes}B"
        if ram is None and recorded.ram_bytes is not None:
            ram = f"{recorded.ram_bytes}B"
    request = Request("", vram=vram or "auto", ram=ram, machine=target.name)
    return place_on(target, torch.device(target.device), request)


def _kind(device: str) -> str:
    return "a CPU" if device == "cpu" else "a CUDA card"


def _report(run: _RecordedRun, place: Place, plan: Plan, *, timed: bool) -> dict[str, object]:
    recorded, file = run.recorded, run.file
    graph = file.header.get("graph")
    return {
        "feasible": plan.feasible,
        "graph": graph if isinstance(graph, str) else "",
        "device": place.machine.device,
        "exact": recorded.exact,
        **plan_figures(place, plan),
        "times": "measured" if timed else "rates",
        "measured_calls": run.measured.calls if timed else 0,
        "calls": len(plan.footprint.calls),
        "recorded": {
            "trace": file.path,
            "state": str(file.state),
            "problem": file.problem,
            "simulated": file.header.get("simulated"),
            "machine": recorded.machine.name,
            "budget_bytes": recorded.budget_bytes,
            "predicted_peak_bytes": file.header.get("predicted_peak_bytes"),
            "predicted_seconds": file.header.get("predicted_seconds"),
            "seconds": run.last_ns / 1e9,
            "settings": len(recorded.variants),
        },
    }
