"""What a trace says of its run before the first event, and the trace that a plan predicts."""

from __future__ import annotations

import datetime
from pathlib import Path

from wanflow.scheduler.run.simulator import simulate
from wanflow.session.planning.planned import Planned
from wanflow.session.planning.record import record_footprints
from wanflow.session.preparing.recipe import versions
from wanflow.trace import TraceWriter


def trace_header(planned: Planned, *, simulated: bool = False) -> dict[str, object]:
    """Say where, what and when; `request` is what a report plans again with."""
    place, report = planned.prepared.place, planned.report
    return {
        "graph": report["graph"],
        "plan_id": report["plan_id"],
        "device": report["device"],
        "machine": report["machine"],
        "budget_bytes": place.budget_bytes,
        "budget_tier": place.tier,
        "overhead_bytes": place.overhead_bytes,
        "predicted_peak_bytes": report["predicted_peak_bytes"],
        "predicted_seconds": report["predicted_seconds"],
        "versions": versions(),
        "seed": planned.prepared.graph.inputs.get("seed", 0),
        "simulated": simulated,
        "device_times": True,
        "stages": [stage.stage for stage in planned.plan.stages],
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "request": _request(planned),
    }


def _request(planned: Planned) -> dict[str, object]:
    """The request as plain values, without its texts: a trace is shown to others."""
    request, graph = planned.prepared.request, planned.prepared.graph
    file = Path(request.graph)
    return {
        "graph": str(file.resolve()) if file.is_file() else request.graph,
        "inputs": {n: v for n, v in graph.plain_inputs().items() if _tells(n, v)},
        "vram": f"{planned.prepared.place.budget_bytes}B",
        "ram": None if planned.prepared.place.ram_bytes is None else request.ram,
        "device": request.device,
        "precision": list(request.precision),
        "loras": list(request.loras),
        "lora_partial": request.lora_partial,
        "settings": list(request.settings),
        "pins": list(request.pins),
        "exact": request.exact,
        "machine": request.machine,
        "preview_every": request.preview_every,
    }


def _tells(name: str, value: object) -> bool:
    """Whether an input decides bytes or times: a number or a size does."""
    return name != "seed" and (isinstance(value, int | float) or name == "size")


def write_prediction(planned: Planned, path: Path, *, force: bool = False) -> None:
    """Write the trace that running the plan would make; InputError when *path* exists."""
    header = trace_header(planned, simulated=True)
    with TraceWriter(path, header, overwrite=force) as writer:
        record_footprints(planned, writer)
        simulate(planned.plan, planned.prepared.place.tier, writer)
        writer.close("done", {"seconds": planned.plan.predicted_seconds})
