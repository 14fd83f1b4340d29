"""A drawn graph planned, run, and held to its plain twin, its budget, its plan and its ledger."""

from __future__ import annotations

import random
from collections.abc import Mapping

import torch

from scripts.fuzz.toy_graphs import ToyGraph
from tests.scheduler.toys import DictSource, random_weights
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.plan.schedule import Plan
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.scheduler.program import GATHERED, interleave
from wanflow.scheduler.run.devices import CpuDevice, LinkedDevice
from wanflow.scheduler.run.executor import Executor, Outcome
from wanflow.scheduler.run.ledger import Ledger
from wanflow.scheduler.run.streamer import Streamer
from wanflow.trace import MemorySink

_CPU = torch.device("cpu")
_LINK_RATE = 1e9
_CLOSE = 0.03  # of the plan: the measured peak

Values = Mapping[str, torch.Tensor]


def run(graph: ToyGraph, rng: random.Random, like: Machine) -> str:
    """Plan *graph* somewhere between its smallest and all resident, run it, and check; a label."""
    variants = footprints(graph)
    ends = plan(variants, like, None)
    room = ends.resident_bytes - ends.minimum_bytes
    budget = ends.minimum_bytes + int(room * rng.choice((0.0, 1.0, rng.random())))
    made = plan(variants, like, budget)
    assert made.feasible
    wanted = twin(graph, made.knobs)
    tier = "cpu" if like.device == "cpu" else "cuda:0"
    outcome, ledger = _ran(graph, made, tier, overlap=rng.random() < 0.8)
    _check(outcome, ledger, made, tier, wanted)
    return f"{tier}, {len(graph.programs)} stages"


def footprints(graph: ToyGraph) -> list[Footprint]:
    """Profile the graph at its plain knobs, and with all that can at the lean ones."""
    read = {name for program in graph.programs for name in program.reads}

    def keeps(name: str) -> bool:
        return name.endswith(".out") and name not in read

    lean = {program.stage: {"rows": "half"} for program in graph.programs if program.knobs}
    settings = [{}, lean] if lean else [{}]
    profiler = Profiler("cpu")
    return [profiler.profile(graph.programs, knobs, keeps) for knobs in settings]


def twin(graph: ToyGraph, knobs: Mapping[str, Mapping[str, str]]) -> Values:
    """Run the same calls with every weight and every value there all along."""
    weights = {name: random_weights(model.module) for name, model in graph.models.items()}
    for name, model in graph.models.items():
        for segment, held in model.segments.items():
            model.bind(segment, {t.name: weights[name][t.name] for t in held.tensors})
    values: dict[str, torch.Tensor] = {}

    def shape(name: str) -> tuple[int, ...]:
        return tuple(values[name].shape)

    with torch.no_grad():
        for placed in interleave(graph.programs, knobs, shape):
            call, program = placed.call, placed.program
            given = {name: values[name] for name in call.reads if name in values}
            if call.gather is not None:
                assert program.model is not None
                table = weights[program.model.name][call.gather.tensor]
                given[GATHERED] = table[values[call.gather.ids]]
            values |= call.run(given)
    for model in graph.models.values():
        for segment in model.segments:
            model.unbind(segment)
    return values


def _ran(graph: ToyGraph, made: Plan, tier: str, *, overlap: bool) -> tuple[Outcome, Ledger]:
    """Run a plan: what came of it, and the accounts."""
    sources = {n: DictSource(random_weights(m.module)) for n, m in graph.models.items()}
    device = CpuDevice() if tier == "cpu" else LinkedDevice(_LINK_RATE)
    streamer = Streamer(graph.models, sources, device, overlap=overlap)
    sink = MemorySink()
    host_bytes = made.host.nbytes + made.host.staging_bytes
    budgets = {tier: made.budget_bytes} | ({} if tier == "cpu" else {"host": host_bytes})
    ledger = Ledger(budgets, sink, check=True)
    executor = Executor(made, graph.programs, streamer, ledger, sink, _CPU, tier)
    try:
        return executor.run(), ledger
    finally:
        if isinstance(device, LinkedDevice):
            device.close()


def _check(outcome: Outcome, ledger: Ledger, made: Plan, tier: str, wanted: Values) -> None:
    """The same bits, nothing left but what is kept, the plan's peak within the budget."""
    for name, tensor in outcome.values.items():
        assert torch.equal(tensor, wanted[name]), f"{name} is not the twin's"
    ledger.check_integrity()
    kept = {t.data_ptr(): t.untyped_storage().nbytes() for t in outcome.values.values()}
    for place in ledger.tiers:
        left = ledger.resident_bytes(place)
        assert left == (sum(kept.values()) if place == tier else 0), f"{left} left on {place}"
    planned = made.predicted_peak_bytes
    assert ledger.peak_bytes(tier) == planned, f"{ledger.peak_bytes(tier)}, planned {planned}"
    measured = outcome.peak_bytes  # every call's allocations are watched
    assert measured <= made.budget_bytes, f"{measured} of a budget of {made.budget_bytes}"
    off = abs(measured - planned)
    assert off <= _CLOSE * planned, f"measured {measured}, planned {planned}"
