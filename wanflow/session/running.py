"""Run a request: plan it, run exactly that plan, and leave a run folder."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from pathlib import Path

from wanflow.errors import InputError, Interrupted, WanflowError
from wanflow.scheduler.executor import Outcome, Watch
from wanflow.session.executing import execute
from wanflow.session.folder import make_folder, write_json
from wanflow.session.job import Job, fingerprint, finished_report, keep_trace
from wanflow.session.lock import locked
from wanflow.session.places import find_place
from wanflow.session.planning import Planned, plan_prepared
from wanflow.session.prepare import Prepared, prepare, versions
from wanflow.session.request import Request
from wanflow.session.state import Saved, StateStore
from wanflow.trace import Tee, TraceSink, TraceWriter


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
    if request.machine is not None:
        raise InputError(
            f"machine {request.machine!r} is for planning: a run happens where it happens",
            hint="leave the machine out",
            code="machine-in-run",
        )
    planned = _feasible(prepare(request, find_place(request), to_run=True))
    folder = make_folder(out, planned.prepared.graph.name, force=force)
    with locked(folder):
        job = Job(folder, request, fingerprint(planned.prepared))
        StateStore(folder / "state").clear()
        job.write()
        return _carry_out(planned, folder, sink, watch, None, overwrite=force)


def resume(
    folder: Path, *, sink: TraceSink | None = None, watch: Watch | None = None
) -> dict[str, object]:
    """Go on with a run that was cut short, from its last finished step.

    A run that is done is left alone: what its `run.json` holds is returned. InputError when the
    graph, the weights or the versions are not what they were, or when another process runs there.
    """
    job = Job.read(folder)
    with locked(folder):
        finished = finished_report(folder)
        if finished is not None:
            return finished
        planned = _feasible(prepare(job.request, find_place(job.request), to_run=True))
        job.check(fingerprint(planned.prepared))
        saved = StateStore(folder / "state").load()
        keep_trace(folder)
        return _carry_out(planned, folder, sink, watch, saved, overwrite=True)


def _feasible(prepared: Prepared) -> Planned:
    planned = plan_prepared(prepared)
    if planned.problem is not None:
        raise planned.problem
    return planned


def _carry_out(
    planned: Planned,
    folder: Path,
    sink: TraceSink | None,
    watch: Watch | None,
    saved: Saved | None,
    *,
    overwrite: bool,
) -> dict[str, object]:
    """Run a plan in its folder, from the start or from what was saved."""
    write_json(folder / "plan.json", {**planned.report, "calls": planned.plan.transitions()})
    start = getattr(sink, "start", None)
    if start is not None:
        start(planned.report)
    began = time.perf_counter()
    with TraceWriter(folder / "trace.msgpack", _header(planned), overwrite=overwrite) as writer:
        tee = Tee((writer, sink)) if sink is not None else writer
        try:
            outcome = execute(planned, folder, tee, watch, saved)
            _save_outputs(planned.prepared, folder, outcome)
        except BaseException as error:
            _close_failed(planned, folder, writer, error)
            raise
        seconds = time.perf_counter() - began
        writer.close("done", {"peak_bytes": outcome.peak_bytes, "seconds": seconds})
    report = {**_done(planned, folder, outcome, seconds, writer), "resumed": saved is not None}
    write_json(folder / "run.json", report)
    StateStore(folder / "state").clear()
    return report


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
