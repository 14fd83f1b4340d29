"""Small programs that run for real: a model of two Linears a block, its weights in a dict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import attrs
import torch

from tests.scheduler.footprints import TOY
from wanflow.models.segments.cut import BoundModule
from wanflow.models.segments.discover import Segmentation
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.plan.schedule import Plan
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.scheduler.program import GATHERED, Call, Gather, Program, Tensors
from wanflow.scheduler.run.devices import CpuDevice
from wanflow.scheduler.run.executor import Executor, Outcome
from wanflow.scheduler.run.ledger import Ledger
from wanflow.scheduler.run.streamer import Streamer
from wanflow.trace import MemorySink

CPU = torch.device("cpu")
WIDTH, ROWS = 16, 8


class Block(torch.nn.Module):
    """Two Linears around a GELU, added to what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(WIDTH, 4 * WIDTH)
        self.down = torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.nn.functional.gelu(self.up(x)))


class Toy(torch.nn.Module):
    """A few blocks, and a table whose rows are gathered."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(100, WIDTH)
        self.blocks = torch.nn.ModuleList(Block() for _ in range(blocks))


def toy_model(blocks: int = 3, staging_bytes: int = 0) -> BoundModule:
    """Build the toy on the meta device, a segment a block."""
    with torch.device("meta"):
        module = Toy(blocks).eval().requires_grad_(requires_grad=False)
    names = [name for name, _ in module.named_parameters()]
    segments = {
        f"block.{i}": tuple(n for n in names if n.startswith(f"blocks.{i}.")) for i in range(blocks)
    }
    return BoundModule("toy", module, Segmentation(segments, {}), staging_bytes, "fp32")


def random_weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Make small weights for all parameters, the same ones every time."""
    noise = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(p.shape, generator=noise).mul_(0.1).to(p.dtype)
        for name, p in module.named_parameters()
    }


@attrs.define
class DictSource:
    """Weights in a dict; *broken* maps a tensor's name to what happens when it is read.

    They are copied behind PyTorch's back, as a file's bytes are.
    """

    weights: Mapping[str, torch.Tensor]
    broken: Mapping[str, Exception] = attrs.field(factory=dict)
    staged: list[int] = attrs.field(factory=list)
    read: list[str] = attrs.field(factory=list)
    _arrays: dict[str, object] = attrs.field(init=False)

    @_arrays.default
    def _as_numpy(self):
        return {name: tensor.numpy() for name, tensor in self.weights.items()}

    def read_into(self, name, target, staging) -> None:
        self._read(name, staging)
        target.numpy()[:] = self._arrays[name]

    def read_each_into(self, targets, staging) -> None:
        for name, target in targets.items():
            self.read_into(name, target, staging)

    def read_rows_into(self, name, rows, target, staging) -> None:
        self._read(name, staging)
        target.numpy()[:] = self._arrays[name][rows]

    def _read(self, name, staging) -> None:
        self.staged.append(0 if staging is None else staging.nbytes)
        self.read.append(name)
        if name in self.broken:
            raise self.broken[name]


@attrs.define
class Script:
    """A program that yields given calls; `closed` says whether it was put away."""

    stage: str
    script: Callable[[], Iterator[Call]]
    model: BoundModule | None = None
    consumes: str | None = None
    knobs: tuple[Knob, ...] = ()
    steps: int = 1
    op: str = "toy"
    closed: bool = False

    def calls(self, knobs, shape) -> Iterator[Call]:
        self.closed = False
        try:
            yield from self.script()
        finally:
            self.closed = True


def one(call: Call, stage: str = "toy", model: BoundModule | None = None) -> Script:
    """Make a program of a single call."""
    return Script(stage, lambda: iter([call]), model)


def start() -> Call:
    """Make the ids; what outside tensors decides is stood in for."""

    def run(_values: Tensors) -> Tensors:
        return {"toy.ids": torch.arange(ROWS) * 3}

    return Call("start", run, stand_in=lambda _: {"toy.ids": torch.zeros(ROWS, dtype=torch.int64)})


def gather() -> Call:
    """Make the hidden state from gathered rows."""

    def run(values: Tensors) -> Tensors:
        return {"toy.x": values[GATHERED].clone()}

    return Call("rows", run, ("toy.ids",), gather=Gather("table.weight", "toy.ids"))


def block(model: BoundModule, index: int, step: int) -> Call:
    """Run a block; what it saw last time is a state."""
    state = f"toy.state.{index}"

    def run(values: Tensors) -> Tensors:
        x = model.module.blocks[index](values["toy.x"])
        return {"toy.x": x + values[state] if state in values else x, state: x.clone()}

    return Call(f"block.{index}", run, ("toy.x", state), segment=f"block.{index}", step=step)


def toy_program(model: BoundModule, passes: int = 3, after: Callable[[], Iterator[Call]] = tuple):
    """Make the whole program: rows, passes over the blocks, an output; then *after*."""

    def script() -> Iterator[Call]:
        yield start()
        yield gather()
        for step in range(passes):
            for index in range(len(model.segments)):
                yield block(model, index, step)
        yield Call("end", lambda values: {"toy.out": values["toy.x"]}, ("toy.x",), step=passes)
        yield from after()

    return Script("toy", script, model, steps=passes)


def is_out(name: str) -> bool:
    """Say which values are outputs."""
    return name.endswith(".out")


def profiled(*programs: Program, keeps=is_out) -> Footprint:
    """Profile programs for a CPU at their plain knobs."""
    return Profiler("cpu").profile(programs, {}, keeps)


@attrs.define
class Bench:
    """Everything a run is made of, at hand."""

    programs: tuple[Program, ...]
    plan: Plan
    source: DictSource
    streamer: Streamer
    ledger: Ledger
    sink: MemorySink
    executor: Executor

    def run(self) -> Outcome:
        """Run the plan."""
        return self.executor.run()


def bench(*programs: Program, budget=None, run=None, broken=None, overlap=True, **hooks) -> Bench:
    """Plan *programs* at a budget ("minimum" for the smallest) and make all ready to run.

    *run* are other programs, to be run by the plan of the first ones.
    """
    footprint = profiled(*programs)
    made = plan([footprint], TOY, None)
    if budget is not None:
        made = plan([footprint], TOY, made.minimum_bytes if budget == "minimum" else budget)
    models = {p.model.name: p.model for p in programs if p.model is not None}
    weights = {k: t for m in models.values() for k, t in random_weights(m.module).items()}
    source = DictSource(weights, broken or {})
    streamer = Streamer(models, dict.fromkeys(models, source), CpuDevice(), overlap=overlap)
    sink = MemorySink()
    ledger = Ledger({"cpu": made.budget_bytes}, sink, check=True)
    ran = run or programs
    executor = Executor(made, ran, streamer, ledger, sink, CPU, "cpu", **hooks)
    return Bench(ran, made, source, streamer, ledger, sink, executor)
