"""A run on several devices: plan all ranks, run each in its process, write one run folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import attrs

from wanflow.errors import InputError, Interrupted, WanflowError
from wanflow.files.lock import locked
from wanflow.files.run_files import RANKS
from wanflow.files.whole import write_json
from wanflow.session.preparing.place import FindPlace
from wanflow.session.ranks.devices import Seats
from wanflow.session.ranks.launch import run_tasks
from wanflow.session.ranks.plan import RankedPlan, plan_ranks
from wanflow.session.ranks.task import RankTask
from wanflow.session.ranks.traces import RankTraces
from wanflow.session.ranks.ways import is_way_to_denoise
from wanflow.session.request import Request
from wanflow.session.running.job import Job, fingerprint, keep_trace
from wanflow.session.running.past_until import check_until
from wanflow.session.running.run import STOPPED, forget, saying_how_to_resume
from wanflow.session.running.run_folder import check_links, make_folder
from wanflow.session.running.saved_state import StateStore
from wanflow.session.running.signals import stopping
from wanflow.trace import TraceSink


def run_ranks(
    request: Request, *, out: Path | None, force: bool, sink: TraceSink | None, on: FindPlace
) -> dict[str, object]:
    """Plan and run a request that names devices; return what `run.json` holds."""
    planned = _feasible(request, on)
    folder = make_folder(out, planned.first.prepared.graph.name, force=force)
    check_links(folder)
    with locked(folder):
        forget(folder)
        Job(folder, request, fingerprint(planned.first.prepared)).write()
        return _carry_out(planned, folder, sink)


def resume_ranks(
    job: Job, devices: str, *, sink: TraceSink | None, on: FindPlace
) -> dict[str, object]:
    """Go on in a folder that is locked, on other *devices* if any are given."""
    request = job.request
    if devices and devices != request.devices:
        one = request.vram if "," not in request.vram else "auto"  # they were for other devices
        pins = tuple(pin for pin in request.pins if not is_way_to_denoise(pin))  # so is this
        request = attrs.evolve(
            request, devices=devices, device="auto", machine=None, vram=one, pins=pins
        )
    planned = _feasible(request, on)
    job.check(fingerprint(planned.first.prepared))
    check_until(planned.first.prepared, StateStore(job.folder / "state").boundary())
    StateStore(job.folder / "state").load()  # what is damaged is refused before anything changes
    keep_trace(job.folder)
    return _carry_out(planned, job.folder, sink)


def _feasible(request: Request, on: FindPlace) -> RankedPlan:
    planned = plan_ranks(request, on=on, to_run=True)
    if planned.problem is not None:
        raise planned.problem
    return planned


def _carry_out(planned: RankedPlan, folder: Path, sink: TraceSink | None) -> dict[str, object]:
    with saying_how_to_resume(folder), stopping() as stop:
        resumed = StateStore(folder / "state").holds_any
        calls = planned.first.plan.transitions()
        write_json(folder / "plan.json", {**planned.report, "calls": calls})
        start = getattr(sink, "start", None)
        if start is not None:
            start({**planned.report, "out": str(folder)})
        _make_folders(folder, len(planned.chosen.ranks))
        try:
            reports = _run(planned, folder, sink, stop)
        except WanflowError as error:
            status = "interrupted" if isinstance(error, Interrupted) else "failed"
            facts = {name: planned.report[name] for name in ("graph", "devices", "share")}
            told = {**facts, "out": str(folder), "status": status, "error": error.message}
            with suppress(WanflowError):  # the disk may be full: what came first is what is told
                write_json(folder / "run.json", told)
            raise
        report = {**_report(planned, folder, reports), "resumed": resumed}
        write_json(folder / "run.json", report)
        if report["status"] != STOPPED:
            StateStore(folder / "state").clear()
    return report


def _make_folders(folder: Path, ranks: int) -> None:
    """Make a folder for each further rank, with what was saved as it is now.

    The first rank saves, and takes away what it saved before, while others may still be reading.
    """
    shutil.rmtree(folder / RANKS, ignore_errors=True)
    (folder / RANKS).mkdir()
    state = folder / "state"
    for rank in range(1, ranks):
        own = folder / RANKS / str(rank)
        own.mkdir()
        if state.exists():
            shutil.copytree(state, own / "state", copy_function=os.link)


def _run(
    planned: RankedPlan, folder: Path, sink: TraceSink | None, stop: Callable[[], None]
) -> list[dict[str, object]]:
    """Run every rank in its process; return their reports."""
    with tempfile.TemporaryDirectory() as meeting:
        tasks = _tasks(planned, folder, Path(meeting))
        with RankTraces(folder, [task.folder / task.trace for task in tasks], sink) as traces:
            return run_tasks(tasks, stop, traces.follow)


def _tasks(planned: RankedPlan, folder: Path, meeting: Path) -> list[RankTask]:
    """Say to each rank what it plans with: bytes for budgets, a value for each knob."""
    import torch

    requests = []
    for rank in planned.chosen.ranks:
        place, request = rank.planned.prepared.place, rank.planned.prepared.request
        ram = f"{place.ram_bytes}B" if place.ram_bytes is not None else None
        requests.append(attrs.evolve(request, vram=f"{place.budget_bytes}B", ram=ram))
    seats = Seats(tuple(requests), planned.seats.kind)
    share = len(requests) if seats.kind == "cpu" else 1
    threads = max(torch.get_num_threads() // share, 1)
    folders = [folder, *(folder / RANKS / str(rank) for rank in range(1, len(requests)))]
    place = planned.first.prepared.place
    rate, stated = place.machine.exchange_rate, place.ram_is_stated
    return [
        RankTask(seats, index, own, meeting / "ranks", threads, rate, stated)
        for index, own in enumerate(folders)
    ]


def _report(
    planned: RankedPlan, folder: Path, reports: list[dict[str, object]]
) -> dict[str, object]:
    """What rank 0's run says, with what each rank planned and took."""
    if len(reports) != len(planned.chosen.ranks):
        raise InputError("a rank left no report", code="rank-lost")
    names = ("device", "budget_bytes", "predicted_peak_bytes", "peak_bytes", "peak_source",
             "seconds", "plan_id")  # fmt: skip
    ranks = [{"rank": n, **{name: one[name] for name in names}} for n, one in enumerate(reports)]
    first = reports[0]
    return {
        **first,
        "trace": str(folder / "trace.msgpack"),
        "devices": planned.report["devices"],
        "share": planned.report["share"],
        "decode": planned.report["decode"],
        "predicted_seconds": planned.report["predicted_seconds"],
        "seconds": max(cast("float", one["seconds"]) for one in reports),
        "ranks": ranks,
    }
