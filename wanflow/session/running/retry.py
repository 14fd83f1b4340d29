"""Execute a plan; when memory runs out in spite of it, a tighter one from the last step."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import torch

from wanflow.errors import OutOfMemory
from wanflow.scheduler.run.device_works import Watch
from wanflow.scheduler.run.devices import Device
from wanflow.scheduler.run.executor import Executor, Outcome, Resumption, Values
from wanflow.scheduler.run.ledger import Ledger
from wanflow.scheduler.run.streamer import Streamer
from wanflow.session.planning.planned import Planned, tightened
from wanflow.session.preparing.place import enforce
from wanflow.session.running.saved_state import Boundary, Saved, StateStore
from wanflow.trace import TraceSink
from wanflow.trace.events import Note
from wanflow.units import format_bytes

_SHARES = (
    1.0,
    0.9,
    0.0,
)  # of the room, for each further try: the same plan, a tighter one, the smallest


@attrs.define
class _RunClock:
    """Time since the first try began, so that all tries share one trace."""

    began_ns: int = attrs.field(init=False)

    @began_ns.default
    def _now(self) -> int:
        return time.perf_counter_ns()

    def now_ns(self) -> int:
        """Time since then."""
        return time.perf_counter_ns() - self.began_ns


@attrs.frozen
class Ran:
    """What came of a run, and the plan that it ended with."""

    outcome: Outcome
    planned: Planned
    tries: int


@attrs.frozen
class _Around:
    """What all tries of a run share."""

    folder: Path
    store: StateStore
    sink: TraceSink
    watch: Watch | None
    stop: Callable[[], None]
    clock: _RunClock


def execute(
    planned: Planned,
    folder: Path,
    sink: TraceSink,
    watch: Watch | None,
    stop: Callable[[], None],
) -> Ran:
    """Run the plan from what is saved in *folder*, else from its start.

    OutOfMemory (exit 6) after three further tries, never on another device.
    """
    around = _Around(folder, StateStore(folder / "state"), sink, watch, stop, _RunClock())
    now, problem = planned, None
    for tries, share in enumerate((*_SHARES, None), 1):
        outcome, problem = _try(now, around)
        if outcome is not None:
            return Ran(outcome, now, tries)
        if share is None or problem is None:
            break
        _make_room()
        now = planned if share == 1.0 else tightened(planned, share)
        _tell(problem, now, around)
    raise _given_up(planned, problem)


def _tell(problem: OutOfMemory, planned: Planned, around: _Around) -> None:
    """Put into the trace what happened and what is done about it."""
    at = around.clock.now_ns
    room, saved = format_bytes(planned.plan.predicted_peak_bytes), around.store.boundary()
    where = "the start" if saved is None else f"after step {saved.step} of {saved.stage}"
    around.sink.emit(Note("out of memory", problem.message, at()))
    around.sink.emit(
        Note("re-plan", f"a plan of {room} ({planned.plan.plan_id}), from {where}", at())
    )


def _try(planned: Planned, around: _Around) -> tuple[Outcome | None, OutOfMemory | None]:
    """Run once. The exception ends here: its frames hold the tensors that filled the device."""
    try:
        return _run_once(planned, around), None
    except OutOfMemory as error:
        return None, OutOfMemory(error.message, hint=error.hint, code=error.code)


def _run_once(planned: Planned, around: _Around) -> Outcome:
    prepared = planned.prepared
    place, store, sink = prepared.place, around.store, around.sink
    if place.device.type == "cuda":
        enforce(place)
    device = place.open_device(place.device)

    def save(stage: str, step: int, values: Values) -> None:
        store.save(Boundary(stage, step), values)

    executor = Executor(
        plan=planned.plan, programs=prepared.programs(around.folder),
        streamer=_streamer(planned, device), ledger=_ledger(planned, sink, device, around.clock),
        sink=sink, device=place.device, tier=place.tier, watch=around.watch, stop=around.stop,
        save=save, resume=_resumption(store.load()),
    )  # fmt: skip
    return executor.run()


def _resumption(saved: Saved | None) -> Resumption | None:
    if saved is None:
        return None
    return Resumption(saved.boundary.stage, saved.boundary.step, saved.values)


def _make_room() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _given_up(planned: Planned, problem: OutOfMemory | None) -> OutOfMemory:
    place = planned.prepared.place
    why = problem.message if problem is not None else "out of memory"
    return OutOfMemory(
        f"{why}; the budget was {format_bytes(place.budget_bytes)} ({place.budget_bytes} bytes), "
        f"the plan's peak {planned.report['predicted_peak_bytes']}; three more tries failed too",
        hint="free memory that other programs hold",
        code="out-of-memory",
    )


def _ledger(planned: Planned, sink: TraceSink, device: Device, clock: _RunClock) -> Ledger:
    place = planned.prepared.place
    budgets = {place.tier: place.usable_bytes}
    if device.has_host_tier:
        needed = planned.plan.host.nbytes + planned.plan.footprint.staging_bytes
        budgets["host"] = place.ram_bytes if place.ram_bytes is not None else needed
    return place.open_ledger(budgets, sink, check=place.checks, began_ns=clock.began_ns)


def _streamer(planned: Planned, device: Device) -> Streamer:
    prepared = planned.prepared
    models = {name: located.model for name, located in prepared.models.items()}
    sources = {
        name: located.checkpoint
        for name, located in prepared.models.items()
        if located.checkpoint is not None
    }
    return Streamer(models, sources, device)
