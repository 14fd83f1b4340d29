"""What one rank prepares: its place with its share of the memory, and the stages that it runs."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from wanflow.errors import InputError
from wanflow.graph import BoundGraph, PortRef
from wanflow.scheduler.machine.peer_links import CARRYING_BYTES
from wanflow.scheduler.ranks import Rank
from wanflow.session.preparing.place import Place
from wanflow.session.preparing.prepare import prepare
from wanflow.session.preparing.prepared import Prepared
from wanflow.session.ranks.devices import Seats
from wanflow.session.ranks.ways import is_decoded_by_all
from wanflow.session.request import Request
from wanflow.units import format_bytes, parse_budget

_SHARED = "denoise"  # the op whose stages all ranks run


def divided_places(seats: Seats, found: Sequence[Place]) -> list[Place]:
    """Give each rank its part of what is free of the memory that several are in.

    InputError for budgets of one memory that are more than it in all.
    """
    count, together = len(found), seats.kind == "cpu"
    slowest = min(place.machine.exchange_rate for place in found)
    places = []
    for request, whole in zip(seats.requests, found, strict=True):
        place = ranked_place(whole, count, slowest)
        if together and parse_budget(request.vram).nbytes is None:
            place = attrs.evolve(place, budget_bytes=place.budget_bytes // count)
        if place.ram_bytes is not None and seats.is_here:
            place = attrs.evolve(place, ram_bytes=place.ram_bytes // count)
        places.append(place)
    asked, capacity = sum(p.budget_bytes for p in places), found[0].machine.capacity_bytes
    if together and asked > capacity:
        raise InputError(
            f"--vram: {count} ranks ask for {format_bytes(asked)} in all, this machine has "
            f"{format_bytes(capacity)}",
            hint="give less, or --vram auto",
            code="budget-too-large",
        )
    return places


def ranked_place(place: Place, count: int, exchange_rate: float) -> Place:
    """Have a place as one of *count* ranks has it, of which the slowest link decides.

    On a card what carries tensors between them is set aside, as the driver's context is.
    """
    carrying = CARRYING_BYTES if count > 1 and place.machine.device == "cuda" else 0
    machine = attrs.evolve(
        place.machine,
        exchange_rate=exchange_rate,
        context_bytes=place.machine.context_bytes + carrying,
    )
    return attrs.evolve(place, machine=machine, overhead_bytes=place.overhead_bytes + carrying)


def prepare_ranks(seats: Seats, places: Sequence[Place], *, to_run: bool) -> list[Prepared]:
    """Prepare every rank; those of one request are prepared once."""
    once: dict[str, Prepared] = {}
    ranks = []
    for index, (request, place) in enumerate(zip(seats.requests, places, strict=True)):
        key = repr(request)
        if key not in once:
            once[key] = prepare(request, place, to_run=to_run)
        prepared = attrs.evolve(once[key], place=place)
        ranks.append(as_rank(prepared, Rank(index, len(places), seats.kind)))
    return ranks


def as_rank(prepared: Prepared, rank: Rank) -> Prepared:
    """Make a rank of it; InputError where there is nothing to share."""
    graph = prepared.graph
    if not any(stage.op.name == _SHARED for stage in graph.stages):
        raise InputError(
            f"--devices: nothing of {graph.name!r} denoises, and that is what devices share",
            hint="a single --device",
            code="nothing-shared",
        )
    return attrs.evolve(prepared, rank=rank)


def own_part(prepared: Prepared) -> Prepared:
    """Leave what a rank runs: the first one the whole graph, the others what is shared of it."""
    if prepared.rank is None or not prepared.rank.index:
        return prepared
    graph = _shared_part(prepared.graph, prepared.request)
    models = {name: prepared.models[name] for name in graph.models}
    return attrs.evolve(prepared, graph=graph, models=models)


def _shared_part(graph: BoundGraph, request: Request) -> BoundGraph:
    """Leave the stages that are shared and those that they need; nothing of it is an output."""
    wanted = {
        stage.name
        for stage in graph.stages
        if stage.op.name == _SHARED or is_decoded_by_all(request, stage.name)
    }
    for stage in reversed(graph.stages):
        if stage.name in wanted:
            refs = [ref for ref in stage.inputs.values() if isinstance(ref, PortRef)]
            wanted |= {ref.stage for ref in refs}
    stages = tuple(stage for stage in graph.stages if stage.name in wanted)
    used = {stage.model for stage in stages}
    models = {name: model for name, model in graph.models.items() if name in used}
    return attrs.evolve(graph, stages=stages, models=models, outputs={})
