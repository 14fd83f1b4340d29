"""Run a request: plan it, run exactly that plan, and leave a run folder."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Mapping
from pathlib import Path

from wanflow.errors import BudgetError, Interrupted, WanflowError
from wanflow.scheduler.executor import Executor, Outcome, Watch
from wanflow.scheduler.ledger import Ledger
from wanflow.scheduler.streamer import Streamer
from wanflow.session.folder import make_folder, write_json
from wanflow.session.places import enforce, find_place
from wanflow.session.planning import Planned, plan_prepared
from wanflow.session.prepare import Prepared, prepare, versions
from wanflow.session.request import Request
from wanflow.session.signals import stopping
from wanflow.trace import Tee, TraceSink, TraceWriter
from wanflow.units import format_bytes


def run(
    request: Request,
    *,
    out: Path | None = None,
    force: bool = False,
    sink: TraceSink | None = None,
    watch: Watch | None = None,
) -> dict[str, object]:
    """Plan and run; return what `run.json` holds.

    *sink* gets every event as it happens, and the plan's report if it has a `start` method. *watch*
    sees every value as it is made. BudgetError before anything runs when the budget can't hold it.
    """
    prepared = prepare(request, find_place(request), to_run=True)
    planned = plan_prepared(prepared)
    if planned.problem is not None:
        raise planned.problem
    folder = make_folder(out, prepared.graph.name, force=force)
    write_json(folder / "plan.json", {**planned.report, "calls": planned.plan.transitions()})
    start = getattr(sink, "start", None)
    if start is not None:
        start(planned.report)
    began = time.perf_counter()
    header = _header(planned)
    with TraceWriter(folder / "trace.msgpack", header, overwrite=force) as writer:
        try:
            outcome = _execute(planned, folder, writer, sink, watch)
        except BaseException as error:
            _close_failed(planned, folder, writer, error)
            raise
        seconds = time.perf_counter() - began
        writer.close("done", {"peak_bytes": outcome.peak_bytes, "seconds": seconds})
    report = _done(planned, folder, outcome, seconds, writer)
    write_json(folder / "run.json", report)
    return report


def _execute(
    planned: Planned, folder: Path, writer: TraceWriter, sink: TraceSink | None, watch: Watch | None
) -> Outcome:
    prepared, place = planned.prepared, planned.prepared.place
    streamer = _streamer(prepared)
    budgets = {place.tier: place.usable_bytes}
    if place.device.type == "cuda":
        enforce(place)
        budgets["host"] = _host_budget(prepared, streamer)
    tee = Tee((writer, sink)) if sink is not None else writer
    ledger = Ledger(budgets, tee, check=os.environ.get("WANFLOW_CHECK") == "1")
    with stopping() as stop:
        executor = Executor(
            plan=planned.plan, programs=prepared.programs(folder), streamer=streamer, ledger=ledger,
            sink=tee, device=place.device, tier=place.tier, watch=watch, stop=stop,
        )  # fmt: skip
        outcome = executor.run()
    _save_outputs(prepared, folder, outcome)
    return outcome


def _streamer(prepared: Prepared) -> Streamer:
    models = {name: located.model for name, located in prepared.models.items()}
    sources = {
        name: located.checkpoint
        for name, located in prepared.models.items()
        if located.checkpoint is not None
    }
    return Streamer(models, sources, prepared.place.device)


def _host_budget(prepared: Prepared, streamer: Streamer) -> int:
    needed, given = streamer.host_bytes(), prepared.place.ram_bytes
    if given is not None and needed > given:
        raise BudgetError(
            f"--ram {given} bytes can't hold the pinned buffer: {needed} bytes "
            f"({format_bytes(needed)}), the largest segment",
            hint=f"--ram {needed}B",
            code="ram-budget",
            detail={"minimum_bytes": needed},
        )
    return given if given is not None else needed


def _save_outputs(prepared: Prepared, folder: Path, outcome: Outcome) -> None:
    """Tensors that are outputs of the graph become safetensors files."""
    from safetensors.torch import save_file

    for name, ref in prepared.graph.outputs.items():
        port = f"{ref.stage}.{ref.port}"
        found = {
            value.removeprefix(port).lstrip(".") or name: tensor.contiguous().cpu()
            for value, tensor in outcome.values.items()
            if value == port or value.startswith(port + ".")
        }
        if found:
            save_file(found, folder / f"{name}.safetensors")


def _header(planned: Planned) -> dict[str, object]:
    place, report = planned.prepared.place, planned.report
    return {
        "graph": report["graph"],
        "plan_id": report["plan_id"],
        "device": report["device"],
        "budget_bytes": place.budget_bytes,
        "budget_tier": place.tier,
        "overhead_bytes": place.overhead_bytes,
        "predicted_peak_bytes": report["predicted_peak_bytes"],
        "predicted_seconds": report["predicted_seconds"],
        "versions": versions(),
        "seed": planned.prepared.graph.inputs.get("seed", 0),
        "simulated": False,
        "stages": [stage.stage for stage in planned.plan.stages],
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _close_failed(
    planned: Planned, folder: Path, writer: TraceWriter, error: BaseException
) -> None:
    stopped = isinstance(error, (KeyboardInterrupt, Interrupted))
    status = "interrupted" if stopped else "failed"
    writer.close(status, {})
    message = error.message if isinstance(error, WanflowError) else type(error).__name__
    report = {**_facts(planned, folder), "status": status, "error": message}
    write_json(folder / "run.json", report)


def _facts(planned: Planned, folder: Path) -> dict[str, object]:
    place, report = planned.prepared.place, planned.report
    return {
        "graph": report["graph"],
        "out": str(folder),
        "trace": str(folder / "trace.msgpack"),
        "plan": str(folder / "plan.json"),
        "plan_id": report["plan_id"],
        "device": report["device"],
        "exact": planned.prepared.request.exact,
        "seed": planned.prepared.graph.inputs.get("seed", 0),
        "budget_bytes": place.budget_bytes,
        "predicted_peak_bytes": report["predicted_peak_bytes"],
        "predicted_seconds": report["predicted_seconds"],
        "inputs": planned.prepared.recipe["inputs"],
        "versions": versions(),
    }


def _done(
    planned: Planned, folder: Path, outcome: Outcome, seconds: float, writer: TraceWriter
) -> dict[str, object]:
    overhead = planned.prepared.place.overhead_bytes
    files = _output_files(planned.prepared, folder)
    return {
        **_facts(planned, folder),
        "status": "done",
        **files,
        "frames": planned.prepared.graph.inputs.get("frames"),
        "seconds": seconds,
        "peak_bytes": outcome.peak_bytes + overhead,
        "peak_source": outcome.peak_source,
        "reserved_peak_bytes": outcome.ledger_peak_bytes + overhead,
        "trace_problem": writer.problem,
    }


def _output_files(prepared: Prepared, folder: Path) -> Mapping[str, str]:
    """The graph's outputs as paths; `video` or `folder` for the first of its kind."""
    files: dict[str, str] = {}
    for stage in prepared.graph.stages:
        kind = {"write_video": "video", "write_frames": "folder"}.get(stage.op.name)
        if kind is not None:
            files.setdefault(kind, str(folder / str(stage.params["name"])))
    return files
