"""Execute a plan; when memory runs out in spite of it, a tighter one from the last step."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import torch

from wanflow.errors import OutOfMemory
from wanflow.scheduler.devices import Device, open_device
from wanflow.scheduler.executor import Executor, Outcome, Resumption, Values, Watch
from wanflow.scheduler.ledger import Ledger
from wanflow.scheduler.streamer import Streamer
from wanflow.session.places import enforce
from wanflow.session.planning import Planned, tightened
from wanflow.session.signals import stopping
from wanflow.session.state import Boundary, Saved, StateStore
from wanflow.trace import TraceSink
from wanflow.trace.events import Note
from wanflow.units import format_bytes

_SHARES = (
    1.0,
    0.9,
    0.0,
)  # of the room, for each further try: the same plan, a tighter one, the smallest


@attrs.frozen
class _Attempt:
    """One try: its plan, and where it begins."""

    planned: Planned
    saved: Saved | None


def execute(
    planned: Planned, folder: Path, sink: TraceSink, watch: Watch | None, saved: Saved | None
) -> Outcome:
    """Run the plan; OutOfMemory (exit 6) after three further tries, never on another device."""
    store = StateStore(folder / "state")
    attempt = _Attempt(planned, saved)
    clock = _Clock()
    with stopping() as stop:
        for share in (*_SHARES, None):
            outcome, problem = _try(attempt, folder, store, sink, watch, stop, clock)
            if outcome is not None:
                return outcome
            if share is None or problem is None:
                break
            _make_room()
            attempt = _next(planned, store, share)
            sink.emit(Note("out of memory", problem.message, clock.now_ns()))
            room = format_bytes(attempt.planned.plan.predicted_peak_bytes)
            at = _where(attempt.saved)
            sink.emit(Note("re-plan", f"a plan of {room}, from {at}", clock.now_ns()))
    raise _given_up(planned, problem)


@attrs.define
class _Clock:
    """Time since the first try began, so that all tries share one trace."""

    began_ns: int = attrs.field(init=False)

    @began_ns.default
    def _now(self) -> int:
        return time.perf_counter_ns()

    def now_ns(self) -> int:
        """Time since then."""
        return time.perf_counter_ns() - self.began_ns


def _try(
    attempt: _Attempt,
    folder: Path,
    store: StateStore,
    sink: TraceSink,
    watch: Watch | None,
    stop: Callable[[], None],
    clock: _Clock,
) -> tuple[Outcome | None, OutOfMemory | None]:
    """Run once. The exception ends here: its frames hold the tensors that filled the device."""
    try:
        return _run_once(attempt, folder, store, sink, watch, stop, clock), None
    except OutOfMemory as error:
        return None, OutOfMemory(error.message, hint=error.hint, code=error.code)


def _run_once(
    attempt: _Attempt,
    folder: Path,
    store: StateStore,
    sink: TraceSink,
    watch: Watch | None,
    stop: Callable[[], None],
    clock: _Clock,
) -> Outcome:
    prepared = attempt.planned.prepared
    place = prepared.place
    if place.device.type == "cuda":
        enforce(place)
    device = open_device(place.device)

    def save(stage: str, step: int, values: Values) -> None:
        store.save(Boundary(stage, step), values)

    executor = Executor(
        plan=attempt.planned.plan, programs=prepared.programs(folder),
        streamer=_streamer(attempt.planned, device),
        ledger=_ledger(attempt.planned, sink, device, clock), sink=sink,
        device=place.device, tier=place.tier, watch=watch, stop=stop, save=save,
        resume=_resumption(attempt.saved),
    )  # fmt: skip
    return executor.run()


def _resumption(saved: Saved | None) -> Resumption | None:
    if saved is None:
        return None
    return Resumption(saved.boundary.stage, saved.boundary.step, saved.values)


def _next(planned: Planned, store: StateStore, share: float) -> _Attempt:
    again = planned if share == 1.0 else tightened(planned, share)
    return _Attempt(again, store.load())


def _where(saved: Saved | None) -> str:
    if saved is None:
        return "the start"
    return f"after step {saved.boundary.step} of {saved.boundary.stage}"


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
        hint="free memory that other programs hold, then: wanflow resume RUN",
        code="out-of-memory",
    )


def _ledger(planned: Planned, sink: TraceSink, device: Device, clock: _Clock) -> Ledger:
    place = planned.prepared.place
    budgets = {place.tier: place.usable_bytes}
    if device.has_host_tier:
        needed = planned.plan.host.nbytes + planned.plan.footprint.staging_bytes
        budgets["host"] = place.ram_bytes if place.ram_bytes is not None else needed
    check = os.environ.get("WANFLOW_CHECK") == "1"
    return Ledger(budgets, sink, check=check, began_ns=clock.began_ns)


def _streamer(planned: Planned, device: Device) -> Streamer:
    prepared = planned.prepared
    models = {name: located.model for name, located in prepared.models.items()}
    sources = {
        name: located.checkpoint
        for name, located in prepared.models.items()
        if located.checkpoint is not None
    }
    return Streamer(models, sources, device)
