"""One stage of a shipped graph by itself: its inputs handed in, random weights, its plan, its run.

Everything that a run of the whole graph does with a stage is done here by the same code: profile,
plan, streamer, ledger, executor. Knobs and their values are those that the program has.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import torch

from benchmarks.lib.programs import Calls
from benchmarks.lib.random_weights import RandomWeights
from benchmarks.lib.stage_case import Case, tokenize
from wanflow.models.backends import attending
from wanflow.models.segments.cut import DTYPES
from wanflow.scheduler.allocator.slack import SlackEstimator
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.plan.schedule import Plan
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.scheduler.program import Call, Program, Tensors
from wanflow.scheduler.run.executor import Executor, Outcome
from wanflow.scheduler.run.ledger import Ledger
from wanflow.scheduler.run.streamer import Streamer
from wanflow.session.preparing.place import (
    FindPlace,
    Place,
    enforced,
    find_place,
)
from wanflow.session.preparing.prepare import prepare
from wanflow.trace import MemorySink

Watch = Callable[[str, str, torch.Tensor], None]


def inputs(values: Mapping[str, torch.Tensor], device: torch.device) -> Program:
    """A program of one call, which brings what the stage reads of others."""

    def run(_values: Tensors) -> Tensors:
        return {n: t.clone().to(device) for n, t in values.items()}

    def stand_in(_values: Tensors) -> Tensors:
        return {n: torch.empty(t.shape, dtype=t.dtype) for n, t in values.items()}

    return Calls("inputs", (Call("inputs", run, stand_in=stand_in),))


@attrs.frozen
class Ran:
    """A run's outcome, and how long it took from weights in host memory to its last value."""

    outcome: Outcome
    seconds: float


@attrs.define
class Alone:
    """A case made ready to be planned and run, as often as is wanted."""

    case: Case
    weights: RandomWeights
    place: Place
    program: Any  # a stage's program: it has the setup that the protocol leaves out
    values: Mapping[str, torch.Tensor]
    backend: str = "native"
    _profiler: Profiler = attrs.field(init=False)
    _footprints: dict[str, Footprint] = attrs.field(factory=dict, init=False)

    @_profiler.default
    def _make_profiler(self) -> Profiler:
        return Profiler(self.place.machine.device)

    @classmethod
    def of(
        cls, case: Case, weights: RandomWeights, scratch: Path, device: str,
        backend: str = "native", on: FindPlace = find_place,
    ) -> Alone:  # fmt: skip
        """Build the models; InputError where the device or its packages lack the *backend*."""
        request = case.request(scratch, device, backend)
        place = on(request)
        prepared = prepare(request, place, to_run=False)
        (program,) = (p for p in prepared.programs(None) if p.stage == case.stage)
        made: Any = program
        made.model.staging_bytes = 0  # every tensor comes in the dtype that it is used in
        if "attention" in made.setup.bound.params:
            with attending(made.model.module, backend, place.device, case.name):
                pass  # it is there
        values = inputs_of(made, DTYPES[case.precision])
        return cls(case, weights, place, _around(made, tokenize=tokenize), values, backend)

    @property
    def model(self) -> Any:
        """The stage's model."""
        return self.program.model

    @property
    def depth(self) -> int | None:
        """Layers of the model as it is released, None where there are none that are alike."""
        return self.case.depth(self.model.name)

    @property
    def block_bytes(self) -> int:
        """Weights of one of the layers that are alike."""
        first = (
            s for name, s in self.model.segments.items() if name.endswith(("blocks.0", "block.0"))
        )
        return 0 if self.depth is None else max(segment.nbytes for segment in first)

    def is_result(self, name: str) -> bool:
        """Whether a value is what the stage makes for others."""
        stage, port = name.split(".")[:2]
        made = self.program.setup.bound.op.outputs
        return stage == self.case.stage and port in made and port != "mask"

    @property
    def is_stream(self) -> bool:
        """Whether its result comes in chunks."""
        return bool(self.program.setup.bound.op.stream_outputs)

    def settings(self) -> list[dict[str, str]]:
        """Every combination of the knobs' values, the plain one first.

        But for compiled kernels, which take a compiler, and minutes: `compiled_forward` has them.
        """
        knobs = [knob for knob in self.program.knobs if knob.name != "compile"]
        combined = itertools.product(*(knob.choices for knob in knobs))
        return [dict(zip((k.name for k in knobs), each, strict=True)) for each in combined]

    def rounding(self, setting: Mapping[str, str]) -> bool:
        """Whether a setting may differ in its last bits from the plain one."""
        choices = {knob.name: knob.choices for knob in self.program.knobs}
        return any(choices[name][value] == "rounding" for name, value in setting.items())

    def footprint(self, setting: Mapping[str, str]) -> Footprint:
        """Profile at a setting, once; on CUDA with what the allocator takes beside."""
        key = str(setting)
        if key not in self._footprints:
            self._footprints[key] = self._profile(setting)
        return self._footprints[key]

    def _profile(self, setting: Mapping[str, str]) -> Footprint:
        cpu = torch.device("cpu")
        programs: tuple[Program, ...] = (inputs(self.values, cpu), self.program)
        found = self._profiler.profile(programs, {self.case.stage: setting}, lambda _name: False)
        if self.place.machine.device != "cuda":
            return found
        slack = SlackEstimator(expandable=self.place.expandable)
        return slack.charged(found, self.place.machine.granularity_bytes)

    def plan(self, footprint: Footprint, budget_bytes: int | None) -> Plan:
        """Plan it on this machine; None for all of it resident."""
        place = self.place
        return plan([footprint], place.machine, budget_bytes, {}, place.ram_bytes)

    def run(self, made: Plan, watch: Watch) -> Ran:
        """Run a plan exactly."""
        place, device = self.place, self.place.open_device(self.place.device)
        budgets = {place.tier: made.budget_bytes}
        if device.has_host_tier:
            budgets["host"] = made.host.nbytes
        sink = MemorySink()
        name = self.model.name
        executor = Executor(
            plan=made,
            programs=(
                inputs(self.values, place.device), _around(self.program, device=place.device),
            ),
            streamer=Streamer({name: self.model}, {name: self.weights}, device),
            ledger=Ledger(budgets, sink), sink=sink, device=place.device, tier=place.tier,
            watch=watch,
        )  # fmt: skip
        with enforced(place), self._attending():
            began = time.perf_counter()
            outcome = executor.run()
            return Ran(outcome, time.perf_counter() - began)

    def _attending(self) -> AbstractContextManager[None]:
        """Have the stage attend with the backend; planning knows only native."""
        if "attention" not in self.program.setup.bound.params:
            return nullcontext()
        return attending(self.model.module, self.backend, self.place.device, self.case.name)


def _around(program: Any, **changes: Any) -> Any:
    """Make the program again, for other surroundings."""
    setup = program.setup
    return attrs.evolve(
        program, setup=attrs.evolve(setup, around=attrs.evolve(setup.around, **changes))
    )


def inputs_of(program: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Noise for everything that a stage reads of others, by the names of its ports."""
    setup, generator = program.setup, torch.Generator().manual_seed(0)
    found = {}
    if "latents" in setup.bound.inputs:
        shape = setup.around.latent_shape
        found[setup.source("latents")] = torch.randn(shape, generator=generator)
    if "text" in setup.bound.inputs:
        text = torch.randn(1, 512, program.model.module.config.text_dim, generator=generator)
        found[f"{setup.source('text')}.positive"] = text.to(dtype)
    return found
