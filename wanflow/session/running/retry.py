"""The out-of-memory ladder: run a plan; if memory runs out all the same, tighter ones go on."""

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
from wanflow.session.preparing.kernels import repeatable, stages_attend
from wanflow.session.preparing.place import enforce
from wanflow.session.running.saved_state import Boundary, Saved, StateStore
from wanflow.trace import TraceSink
from wanflow.trace.events import Note
from wanflow.units import format_bytes

# Of the plan's peak, for each further try: the same plan, a tighter one, the smallest.
_SHARES = (1.0, 0.9, 0.0)


@attrs.frozen
class Ran:
    """What came of a run, and the plan that it ended with."""

    outcome: Outcome
    planned: Planned
    tries: int


@attrs.frozen
class _Shared:
    """What all tries of a run share, the clock of their one trace among it."""

    folder: Path
    store: StateStore
    sink: TraceSink
    watch: Watch | None
    stop: Callable[[], None]
    began_ns: int = attrs.field(factory=time.perf_counter_ns, init=False)

    def note(self, topic: str, text: str) -> None:
        """Put a note into the trace."""
        self.sink.emit(Note(topic, text, time.perf_counter_ns() - self.began_ns))


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
    shared = _Shared(folder, StateStore(folder / "state"), sink, watch, stop)
    rung, problem = planned, None
    for tries, share in enumerate((*_SHARES, None), 1):
        outcome, problem = _try(rung, shared)
        if outcome is not None:
            return Ran(outcome, rung, tries)
        if share is None or problem is None:
            break
        _make_room()
        rung = planned if share == 1.0 else tightened(planned, share)
        _tell(problem, rung, shared)
    raise _given_up(planned, problem)


def _tell(problem: OutOfMemory, planned: Planned, shared: _Shared) -> None:
    """Put into the trace what happened and what is done about it."""
    room, saved = format_bytes(planned.plan.predicted_peak_bytes), shared.store.boundary()
    where = "the start" if saved is None else f"after step {saved.step} of {saved.stage}"
    shared.note("out of memory", problem.message)
    shared.note("re-plan", f"a plan of {room} ({planned.plan.plan_id}), from {where}")


def _try(planned: Planned, shared: _Shared) -> tuple[Outcome | None, OutOfMemory | None]:
    """Run once. The exception ends here: its frames hold the tensors that filled the device."""
    try:
        return _run_once(planned, shared), None
    except OutOfMemory as error:
        return None, OutOfMemory(error.message, hint=error.hint, code=error.code)


def _run_once(planned: Planned, shared: _Shared) -> Outcome:
    prepared = planned.prepared
    place, store, sink = prepared.place, shared.store, shared.sink
    if place.device.type == "cuda":
        enforce(place)
    device = place.open_device(place.device)

    def save(stage: str, step: int, values: Values) -> None:
        store.save(Boundary(stage, step), values)

    def note_nonfinite(text: str) -> None:
        shared.note("not finite", text)

    executor = Executor(
        plan=planned.plan, programs=prepared.programs(shared.folder),
        streamer=_streamer(planned, device), ledger=_ledger(planned, sink, device, shared.began_ns),
        sink=sink, device=place.device, tier=place.tier, watch=shared.watch, stop=shared.stop,
        save=save, resume=_resumption(store.load()),
        nonfinite=note_nonfinite if prepared.request.allow_nonfinite else None,
    )  # fmt: skip
    with stages_attend(prepared.graph, prepared.models, place.device), repeatable(place.device):
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


def _ledger(planned: Planned, sink: TraceSink, device: Device, began_ns: int) -> Ledger:
    place = planned.prepared.place
    budgets = {place.tier: place.usable_bytes}
    if device.has_host_tier:
        needed = planned.plan.host.nbytes + planned.plan.footprint.staging_bytes
        budgets["host"] = place.ram_bytes if place.ram_bytes is not None else needed
    return place.open_ledger(budgets, sink, check=place.checks, began_ns=began_ns)


def _streamer(planned: Planned, device: Device) -> Streamer:
    prepared = planned.prepared
    models = {name: located.model for name, located in prepared.models.items()}
    sources = {
        name: located.checkpoint
        for name, located in prepared.models.items()
        if located.checkpoint is not None
    }
    return Streamer(models, sources, device)
