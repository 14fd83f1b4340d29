"""A request from its plan to its run folder, from the start or from the last saved step."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from wanflow.errors import InputError, Interrupted, StageFailed, WanflowError
from wanflow.files.lock import locked
from wanflow.files.preview_files import CLIP, STRIP
from wanflow.files.whole import FREE_SPACE, unwritable, write_json, writing
from wanflow.graph import BoundGraph
from wanflow.scheduler.run.call_meter import Peaks
from wanflow.scheduler.run.device_works import Watch
from wanflow.scheduler.run.error_words import reported
from wanflow.scheduler.run.executor import Outcome
from wanflow.scheduler.run.streamer import Streamer
from wanflow.session.planning.planned import Planned, plan_prepared
from wanflow.session.planning.record import record_footprints
from wanflow.session.preparing.compiling import Compiled, check_compiler, compile_stages
from wanflow.session.preparing.place import FindPlace, Place, enforced
from wanflow.session.preparing.prepare import prepare
from wanflow.session.preparing.prepared import Prepared
from wanflow.session.preparing.recipe import versions
from wanflow.session.probing.first_probe import probed_place
from wanflow.session.request import Request
from wanflow.session.running.job import Job, fingerprint, finished_report, keep_trace
from wanflow.session.running.lessons import Lessons
from wanflow.session.running.past_until import check_until
from wanflow.session.running.retry import TRIES, execute
from wanflow.session.running.run_folder import check_links, make_folder
from wanflow.session.running.saved_state import StateStore
from wanflow.session.running.signals import stopping
from wanflow.session.running.skipped_steps import SkippedSteps
from wanflow.session.running.trace_header import trace_header
from wanflow.trace import Tee, TraceSink, TraceWriter
from wanflow.trace.events import Note
from wanflow.trace.measured import MeasuredPeaks

_PRODUCTS = {"write_video": "video", "write_picture": "picture", "write_frames": "folder"}


@attrs.frozen
class Part:
    """What of a run a process has: all of it, or what one of several ranks does.

    `trace` is the file of its events; `tries` how often it may run out of memory; `saves` whether
    the values after a step are saved; `tells` whether it says in the folder how it ended, `teaches`
    whether the machine's figures are put right by what its calls took. `peaks` is what runs of the
    same plan before it measured of its calls. `exchanging` says for how many ns exchanges with
    other ranks were waited for so far, where that is known.
    """

    trace: str = "trace.msgpack"
    tries: int = TRIES
    saves: bool = True
    tells: bool = True
    teaches: bool = True
    peaks: Peaks | None = None
    exchanging: Callable[[], int] | None = None


WHOLE = Part()
STOPPED = "stopped"  # the status of a run that ended where it was asked to


def run(
    request: Request,
    *,
    out: Path | None = None,
    force: bool = False,
    sink: TraceSink | None = None,
    watch: Watch | None = None,
    on: FindPlace = probed_place,
) -> dict[str, object]:
    """Plan and run; return what `run.json` holds.

    A run that stops where the request says, `until`, has the status `stopped` and can go on. *sink*
    gets every event as it happens, and the plan's report if it has a `start` method. *watch* sees
    every value as it is made. *on* finds the place to run on, and what opens its device there.
    BudgetError before anything runs when the budget can't hold it.
    """
    if request.devices:
        from wanflow.session.ranks.run import run_ranks

        return run_ranks(request, out=out, force=force, sink=sink, on=on)
    if request.machine is not None:
        raise InputError(
            f"machine {request.machine!r} is for planning: a run happens where it happens",
            hint="leave the machine out",
            code="machine-in-run",
        )
    planned = _feasible(prepare(request, on(request), to_run=True))
    check_compiler(planned.plan.knobs, planned.prepared.place.device)
    folder = make_folder(out, planned.prepared.graph.name, force=force)
    check_links(folder)
    with locked(folder):
        forget(folder)
        Job(folder, planned.prepared.request, fingerprint(planned.prepared)).write()
        return carry_out(planned, folder, sink, watch, overwrite=force)


def resume(
    folder: Path,
    *,
    sink: TraceSink | None = None,
    watch: Watch | None = None,
    on: FindPlace = probed_place,
    allow_nonfinite: bool = False,
    devices: str = "",
    preview_every: int | None = None,
    until: str = "",
) -> dict[str, object]:
    """Go on with a run that was cut short, from its last finished step.

    A run that is done is left alone: what its `run.json` holds is returned. *allow_nonfinite*
    allows what the run's own request may not. *devices* are others than it was begun on, and
    *preview_every* other previews. It goes to the end, or *until* another step.
    InputError when the graph, the weights or the versions are not what they were, or when another
    process runs there.
    """
    job = Job.read(folder)
    check_links(folder)
    job = job.going_on(allow_nonfinite, preview_every, until)
    with saying_how_to_resume(folder), locked(folder):
        finished = finished_report(folder)
        if finished is not None:
            StateStore(folder / "state").clear()  # the run may have been killed before it did so
            return finished
        if devices or job.request.devices:
            from wanflow.session.ranks.run import resume_ranks

            return resume_ranks(job, devices, sink=sink, on=on)
        planned = _as_before(job, on)
        job.check(fingerprint(planned.prepared))
        check_until(planned.prepared, StateStore(folder / "state").boundary())
        check_compiler(planned.plan.knobs, planned.prepared.place.device)
        StateStore(folder / "state").load()  # what is damaged is refused before anything changes
        keep_trace(folder)
        return carry_out(planned, folder, sink, watch, overwrite=True)


def run_in(
    planned: Planned,
    folder: Path,
    sink: TraceSink | None,
    streamer: Streamer | None,
    *,
    part: Part = WHOLE,
) -> dict[str, object]:
    """Run a plan in its folder, or go on with what was begun there; a row of a batch.

    What is done is left alone. InputError when what was begun is no more what the plan is of.
    """
    check_links(folder)
    with saying_how_to_resume(folder), locked(folder):
        finished = finished_report(folder)
        if finished is not None:
            StateStore(folder / "state").clear()
            return finished
        if StateStore(folder / "state").holds_any:
            Job.read(folder).check(fingerprint(planned.prepared))
            check_until(planned.prepared, StateStore(folder / "state").boundary())
            StateStore(folder / "state").load()
            keep_trace(folder)
        else:
            forget(folder)
            Job(folder, planned.prepared.request, fingerprint(planned.prepared)).write()
        return carry_out(planned, folder, sink, overwrite=True, streamer=streamer, part=part)


def forget(folder: Path) -> None:
    """Take away what would let an earlier run in the folder pass for this one."""
    for path in (folder / "run.json", folder / STRIP, folder / CLIP):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from None
    StateStore(folder / "state").clear()


def _as_before(job: Job, on: FindPlace) -> Planned:
    """Plan the rest at the settings that its first part was rounded at; others if they don't fit.

    What runs have taught of the machine since may make other ones faster.
    """
    prepared = prepare(job.request, on(job.request), to_run=True)
    planned = plan_prepared(prepared.keeping(job.knobs()))
    return planned if planned.problem is None else _feasible(prepared)


def _feasible(prepared: Prepared) -> Planned:
    planned = plan_prepared(prepared)
    if planned.problem is not None:
        raise planned.problem
    return planned


def carry_out(
    planned: Planned,
    folder: Path,
    sink: TraceSink | None,
    watch: Watch | None = None,
    *,
    overwrite: bool,
    streamer: Streamer | None = None,
    part: Part = WHOLE,
) -> dict[str, object]:
    """Run a plan in its folder, from the start or from what was saved.

    *streamer* has what the run before left on the device, and what this one leaves.
    """
    with saying_how_to_resume(folder), stopping() as stop:
        resumed = StateStore(folder / "state").holds_any
        write_json(folder / "plan.json", {**planned.report, "calls": planned.plan.transitions()})
        start = getattr(sink, "start", None)
        if start is not None:
            start({**planned.report, "out": str(folder)})
        report = run_traced(
            planned, folder, sink, watch, stop, streamer, overwrite=overwrite, part=part
        )
        report["resumed"] = resumed
        write_json(folder / "run.json", report)
        if report["status"] != STOPPED:
            StateStore(folder / "state").clear()
    return report


def run_traced(
    planned: Planned,
    folder: Path,
    sink: TraceSink | None,
    watch: Watch | None,
    stop: Callable[[], None],
    streamer: Streamer | None = None,
    *,
    overwrite: bool,
    part: Part = WHOLE,
) -> dict[str, object]:
    """Run with every event in the trace; return the report of the run."""
    compiled = compile_stages(planned.prepared, planned.plan.knobs)
    began, skipped = time.perf_counter(), SkippedSteps(watch)
    lessons, peaks = Lessons(planned.prepared.place.machine), MeasuredPeaks()
    with TraceWriter(folder / part.trace, trace_header(planned), overwrite=overwrite) as writer:
        tee = Tee((writer, lessons, peaks, *((sink,) if sink is not None else ())))
        record_footprints(planned, writer)
        _note(compiled, tee)
        try:
            with enforced(planned.prepared.place):
                seen = skipped.beside(planned)
                ran = execute(
                    planned, folder, tee, seen, stop, lessons.saved, streamer,
                    tries=part.tries, saves=part.saves, peaks=part.peaks,
                    exchanging=part.exchanging,
                )  # fmt: skip
            if not ran.outcome.stopped:
                reported("the outputs", _save_outputs, planned.prepared, folder, ran.outcome)
            seconds = time.perf_counter() - began  # what the plan predicts: until all is there
            if part.teaches and not skipped.found_any and not ran.outcome.stopped:
                lessons.keep(ran.planned.plan.footprint, tee)
        except BaseException as error:
            _close_failed(planned, folder, writer, error, tells=part.tells)
            raise
        memory = _memory(planned.prepared.place, ran.outcome, peaks)
        status = STOPPED if ran.outcome.stopped else "done"
        writer.close(status, {"peak_bytes": memory["peak_bytes"], "seconds": seconds})
    done = _done(planned, folder, status, seconds, writer)
    return {
        **done,
        **memory,
        "tries": ran.tries,
        "skipped_steps": skipped.report(ran.planned),
        "compile_seconds": compiled.seconds if compiled is not None else 0.0,
    }


def _note(compiled: Compiled | None, sink: TraceSink) -> None:
    """Tell what was compiled: its time is none of the run's, which machines learn from."""
    if compiled is not None:
        sink.emit(Note("compiled", str(compiled), 0))


def resume_command(folder: Path) -> str:
    """Say what goes on with a run."""
    return f"wanflow resume {shlex.quote(str(folder))}"


@contextmanager
def saying_how_to_resume(folder: Path) -> Iterator[None]:
    """Tell with whatever ends a run the command that goes on with it, if a step was saved."""
    try:
        yield
    except WanflowError as error:
        if StateStore(folder / "state").holds_any and not isinstance(error, InputError):
            command = resume_command(folder)
            error.hint = error.hint or command
            error.detail["resume"] = command
        raise


def _save_outputs(prepared: Prepared, folder: Path, outcome: Outcome) -> None:
    """Tensors that are outputs of the graph become safetensors files."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    for name, ref in prepared.graph.outputs.items():
        port = f"{ref.stage}.{ref.port}"
        tensors = {
            value.removeprefix(port).lstrip(".") or name: tensor.cpu().contiguous()
            for value, tensor in outcome.values.items()
            if value == port or value.startswith(port + ".")
        }
        if tensors:
            path = folder / f"{name}.safetensors"
            try:
                with writing(path) as part:
                    save_file(tensors, part)
            except OSError as error:
                raise unwritable(path, error) from None
            except SafetensorError as error:
                raise StageFailed(
                    f"{path}: {error}", hint=FREE_SPACE, code="write-failed"
                ) from None


def _close_failed(
    planned: Planned, folder: Path, writer: TraceWriter, error: BaseException, *, tells: bool
) -> None:
    stopped = isinstance(error, (KeyboardInterrupt, Interrupted))
    status = "interrupted" if stopped else "failed"
    writer.close(status, {})
    if not tells:
        return
    message = error.message if isinstance(error, WanflowError) else type(error).__name__
    report = {**_facts(planned, folder), "status": status, "error": message}
    with suppress(WanflowError):  # the disk may be full: what came first is what is told
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
        "allow_nonfinite": planned.prepared.request.allow_nonfinite,
        "seed": planned.prepared.graph.inputs.get("seed", 0),
        "budget_bytes": place.budget_bytes,
        "predicted_peak_bytes": report["predicted_peak_bytes"],
        "predicted_seconds": report["predicted_seconds"],
        "cut_prompts": report["cut_prompts"],
        "inputs": planned.prepared.graph.plain_inputs(),
        "versions": versions(),
        "notes": report["notes"],
    }


def _done(
    planned: Planned, folder: Path, status: str, seconds: float, writer: TraceWriter
) -> dict[str, object]:
    files = _output_files(planned.prepared, folder) if status == "done" else {}
    return {
        **_facts(planned, folder),
        "status": status,
        **_stopped(planned, folder, status),
        **files,
        **_preview_files(folder),
        "frames": _frames(planned.prepared.graph),
        "seconds": seconds,
        "trace_problem": writer.problem,
    }


def _stopped(planned: Planned, folder: Path, status: str) -> dict[str, object]:
    """Where a run was stopped, and the command that goes on with it."""
    if status != STOPPED:
        return {}
    return {"until": str(planned.prepared.until), "resume": resume_command(folder)}


def _preview_files(folder: Path) -> dict[str, object]:
    """The files of the last preview, where one was made."""
    strip = folder / STRIP
    return {"preview": str(strip)} if strip.exists() else {}


def _memory(place: Place, outcome: Outcome, peaks: MeasuredPeaks) -> dict[str, object]:
    """Say what was taken in all, as a summary of the trace says it."""
    measured = peaks.peak(place.tier, place.overhead_bytes)
    given_out = outcome.ledger_peak_bytes + place.overhead_bytes
    peak = measured.nbytes if measured is not None else given_out
    return {
        "peak_bytes": peak,
        "peak_source": measured.source if measured is not None else "",
        "watched_calls": outcome.watched_calls,
        "beside_bytes": measured.beside_bytes if measured is not None else 0,
        "reserved_peak_bytes": given_out,
        "over_budget_bytes": max(peak, given_out, place.budget_bytes) - place.budget_bytes,
    }


def _frames(graph: BoundGraph) -> object:
    """How many frames were written; those of the input where none were."""
    writers = [stage for stage in graph.stages if stage.op.name in _PRODUCTS]
    return graph.frames_of(writers[0]) if writers else graph.inputs.get("frames")


def _output_files(prepared: Prepared, folder: Path) -> Mapping[str, str]:
    """The graph's outputs as paths; `video`, `picture` or `folder` for the first of its kind."""
    files: dict[str, str] = {}
    for stage in prepared.graph.stages:
        kind = _PRODUCTS.get(stage.op.name)
        if kind is not None:
            files.setdefault(kind, str(folder / str(stage.params["name"])))
    return files
