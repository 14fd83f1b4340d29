"""The out-of-memory ladder: run a plan; if memory runs out all the same, tighter ones go on."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import attrs
import torch

from wanflow.errors import OutOfMemory, StageFailed
from wanflow.heap import give_back
from wanflow.scheduler.run.call_meter import Peaks
from wanflow.scheduler.run.card_context import CardContext
from wanflow.scheduler.run.device_times import timed
from wanflow.scheduler.run.device_works import Watch
from wanflow.scheduler.run.devices import Device
from wanflow.scheduler.run.error_words import HOST_FULL, first_line, reported
from wanflow.scheduler.run.executor import Executor, Outcome, Resumption, Values
from wanflow.scheduler.run.ledger import Ledger
from wanflow.scheduler.run.streamer import Streamer
from wanflow.session.planning.planned import Planned, host_bytes, tightened
from wanflow.session.preparing.card import own_context
from wanflow.session.preparing.kernels import repeatable, stages_attend
from wanflow.session.preparing.place import Place
from wanflow.session.preparing.prepared import Prepared
from wanflow.session.running.remade_tables import with_tables
from wanflow.session.running.saved_state import Boundary, Saved, StateStore
from wanflow.trace import TraceSink
from wanflow.trace.events import Note
from wanflow.units import format_bytes

# Of what the plan takes of the memory that ran out, by how often it did: the same plan, a tighter
# one, the smallest.
_SHARES = (1.0, 1.0, 0.9, 0.0)
TRIES = len(_SHARES)


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
    context: CardContext | None
    saved: Callable[[float], None] | None
    streamer: Streamer | None
    saves: bool
    peaks: Peaks
    exchanging: Callable[[], int] | None
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
    saved: Callable[[float], None] | None = None,
    streamer: Streamer | None = None,
    *,
    tries: int = TRIES,
    saves: bool = True,
    peaks: Peaks | None = None,
    exchanging: Callable[[], int] | None = None,
) -> Ran:
    """Run the plan from what is saved in *folder*, else from its start.

    *saved* hears the seconds that each saving of a step took; without *saves* none is. *streamer*
    has what the run before left, and what this one leaves; *peaks* what it measured of calls.
    *exchanging* says for how many ns other ranks were waited for. OutOfMemory (exit 6) after so
    many *tries*, never on another device.
    """
    most = tries
    place = planned.prepared.place
    store, beside = StateStore(folder / "state"), _beside(place)
    known = {} if peaks is None else peaks
    shared = _Shared(
        folder, store, sink, watch, stop, beside, saved, streamer, saves, known, exchanging
    )
    rung, tries, full_host, full_device = planned, 1, 0, 0
    ended = _try(rung, shared)
    while isinstance(ended, OutOfMemory) and tries < most:
        _make_room(place.device, ended)
        if ended.code == HOST_FULL and rung.plan.host.nbytes:
            full_host += 1
        else:
            full_device += 1
        shares = _SHARES[full_device], _SHARES[full_host]
        rung = planned if shares == (1.0, 1.0) else tightened(planned, *shares)
        _tell(ended, rung, shared)
        ended, tries = _try(rung, shared), tries + 1
    if isinstance(ended, OutOfMemory):
        _make_room(planned.prepared.place.device, ended)  # for whoever runs next in this process
        raise _given_up(planned, ended, most - 1)
    return Ran(ended, rung, tries)


def _beside(place: Place) -> CardContext | None:
    """Follow what lies on a card beside the tensors; all tries of a run share it."""
    if place.kind != "cuda":
        return None
    own = own_context(place.device.index or 0)
    return CardContext(place.device, place.machine.context_bytes, own, place.budget_bytes)


def _tell(problem: OutOfMemory, planned: Planned, shared: _Shared) -> None:
    """Put into the trace what happened and what is done about it."""
    plan, saved = planned.plan, shared.store.boundary()
    room = format_bytes(plan.predicted_peak_bytes)
    if plan.host.nbytes:
        room += f" and {format_bytes(host_bytes(plan))} of the host"
    where = "the start" if saved is None else f"after step {saved.step} of {saved.stage}"
    shared.note("out of memory", problem.message)
    shared.note("re-plan", f"a plan of {room} ({plan.plan_id}), from {where}")


def _try(planned: Planned, shared: _Shared) -> Outcome | OutOfMemory:
    """Run once. The exception ends here: its frames hold the tensors that filled the device."""
    try:
        return reported(str(planned.prepared.place.device), _run_once, planned, shared)
    except OutOfMemory as error:
        return OutOfMemory(error.message, hint=error.hint, code=error.code)


def _run_once(planned: Planned, shared: _Shared) -> Outcome:
    prepared = planned.prepared
    place, store = prepared.place, shared.store
    device = place.open_device(place.device)
    sink = timed(device, shared.sink, shared.began_ns)

    def save(stage: str, step: int, values: Values) -> None:
        began = time.perf_counter()
        store.save(Boundary(stage, step), values)
        if shared.saved is not None:
            shared.saved(time.perf_counter() - began)

    def note_nonfinite(text: str) -> None:
        shared.note("not finite", text)

    streamer = shared.streamer or streamer_of(prepared, device)
    executor = Executor(
        plan=planned.plan, programs=prepared.programs(shared.folder), streamer=streamer,
        ledger=_ledger(planned, sink, device, shared.began_ns), sink=sink,
        device=place.device, tier=place.tier, watch=shared.watch, stop=shared.stop,
        save=save if shared.saves else None, until=_until(prepared),
        resume=_resumption(store.load(), planned),
        nonfinite=note_nonfinite if prepared.request.allow_nonfinite else None,
        context=shared.context, peaks=shared.peaks, exchanging=shared.exchanging,
    )  # fmt: skip
    with stages_attend(prepared.graph, prepared.models, place.device), repeatable(place.device):
        outcome = executor.run()
    if place.device.type == "cpu":
        give_back()
    return outcome


def _until(prepared: Prepared) -> tuple[str, int] | None:
    until = prepared.until
    return None if until is None else (until.stage, until.step)


def _resumption(saved: Saved | None, planned: Planned) -> Resumption | None:
    if saved is None:
        return None
    saved = with_tables(saved, planned)
    return Resumption(saved.boundary.stage, saved.boundary.step, saved.values)


def _make_room(device: torch.device, problem: OutOfMemory) -> None:
    """Give back what is held for nobody; StageFailed where the card answers no more.

    What kernels have left to say is taken first, else the next try would be told. A card says it
    once, a context that is lost at every call.
    """
    gc.collect()
    give_back()
    if device.type != "cuda":
        return
    with suppress(RuntimeError):
        torch.cuda.synchronize(device)
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except RuntimeError as error:
        raise StageFailed(
            f"{problem.message}; then {first_line(error)}", code="device-failed"
        ) from None


def _given_up(planned: Planned, problem: OutOfMemory, again: int) -> OutOfMemory:
    place = planned.prepared.place
    return OutOfMemory(
        f"{problem.message}; the budget was {format_bytes(place.budget_bytes)} "
        f"({place.budget_bytes} bytes), "
        f"the plan's peak {planned.report['predicted_peak_bytes']}"
        + ("; three more tries failed too" if again else ""),
        hint=problem.hint or "free memory that other programs hold",
        code="out-of-memory",
    )


def _ledger(planned: Planned, sink: TraceSink, device: Device, began_ns: int) -> Ledger:
    place = planned.prepared.place
    budgets = {place.tier: place.usable_bytes}
    if device.has_host_tier:
        needed = planned.plan.host.nbytes + planned.plan.footprint.staging_bytes
        budgets["host"] = place.ram_bytes if place.ram_bytes is not None else needed
    return place.open_ledger(budgets, sink, check=place.checks, began_ns=began_ns)


def streamer_of(prepared: Prepared, device: Device) -> Streamer:
    """Make what brings the weights of prepared models to a device."""
    models = {name: located.model for name, located in prepared.models.items()}
    found = {name: located.source for name, located in prepared.models.items()}
    sources = {name: source for name, source in found.items() if source is not None}
    return Streamer(models, sources, device)
