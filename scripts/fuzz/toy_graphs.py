"""Graphs of toys, drawn: stages that read one another, stream, keep states and share models."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import attrs
import torch

from tests.scheduler.toys import Toy
from wanflow.models.segments.cut import BoundModule
from wanflow.models.segments.discover import Segmentation
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.program import GATHERED, Call, Gather, ShapeOf, Tensors

_ROWS_KNOB = Knob(
    "rows", {"all": "bitwise", "half": "rounding"}, "rows at a time", levels={"half": 1}
)
_WIDTH = 16  # of the toys


@attrs.frozen
class ToyStage:
    """A program: it starts from rows of a table or from other stages, passes through its blocks.

    `reads` are values of other stages; `sides` are sizes of values that it makes for later ones.
    """

    stage: str
    model: BoundModule | None
    rows: int
    passes: int
    reads: tuple[str, ...]
    sides: tuple[int, ...]
    has_states: bool
    emits: bool
    consumes: str | None
    knobs: tuple[Knob, ...]
    op: str = "toy"

    @property
    def steps(self) -> int:
        """How often it repeats."""
        return self.passes

    @property
    def makes(self) -> tuple[str, ...]:
        """What later stages may read."""
        sides = (f"{self.stage}.side{number}" for number in range(len(self.sides)))
        return (f"{self.stage}.out", *sides)

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:  # noqa: ARG002
        """Yield the calls in order."""
        parts = 2 if knobs.get("rows") == "half" else 1
        chunk = 1 if self.consumes else 0
        yield from self._begin(chunk)
        for step in range(self.passes):
            if self.consumes:
                yield self._taken(step)
            for index in range(self._blocks):
                yield self._block(index, step, parts, step + 1 if self.consumes else 0)
            if self.emits:
                yield self._chunk(step)
        yield from self._end()

    @property
    def _blocks(self) -> int:
        return 0 if self.model is None else len(self.model.segments)

    def _begin(self, chunk: int) -> Iterator[Call]:
        ids, x = f"{self.stage}.ids", f"{self.stage}.x"
        if self.model is None or self.reads:
            yield Call("start", self._mixed, self.reads, chunk=chunk)
            return

        def make_ids(_values: Tensors) -> Tensors:
            return {ids: torch.arange(self.rows) % 100}

        def stand_in(_values: Tensors) -> Tensors:
            return {ids: torch.zeros(self.rows, dtype=torch.int64)}

        def gathered(values: Tensors) -> Tensors:
            return {x: values[GATHERED].clone()}

        yield Call("ids", make_ids, chunk=chunk, stand_in=stand_in)
        yield Call("rows", gathered, (ids,), gather=Gather("table.weight", ids), chunk=chunk)

    def _mixed(self, values: Tensors) -> Tensors:
        """Make the hidden state of what is read, whatever shape that has."""
        x = torch.full((self.rows, _WIDTH), 0.1)
        for name in self.reads:
            x = x + values[name].mean()
        return {f"{self.stage}.x": x}

    def _taken(self, step: int) -> Call:
        """Take a chunk of the stream."""
        chunk, x = f"{self.consumes}.chunk", f"{self.stage}.x"

        def take(values: Tensors) -> Tensors:
            return {x: values[x] + values[chunk].mean()}

        return Call("take", take, (x, chunk), step=step, chunk=step + 1)

    def _block(self, index: int, step: int, parts: int, chunk: int) -> Call:
        x, state = f"{self.stage}.x", f"{self.stage}.state.{index}"
        model = self.model
        assert model is not None

        def run(values: Tensors) -> Tensors:
            layer = model.module.blocks[index]  # type: ignore[index]
            pieces = [layer(piece) for piece in values[x].chunk(parts)]  # type: ignore[operator]
            out = pieces[0] if parts == 1 else torch.cat(pieces)
            if not self.has_states:
                return {x: out}
            out = out + values[state] if state in values else out
            return {x: out, state: out.clone()}

        reads = (x, state) if self.has_states else (x,)
        return Call(f"block.{index}", run, reads, segment=f"block.{index}", step=step, chunk=chunk)

    def _chunk(self, step: int) -> Call:
        x, chunk = f"{self.stage}.x", f"{self.stage}.chunk"

        def emit(values: Tensors) -> Tensors:
            return {chunk: values[x] * 2}

        return Call("chunk", emit, (x,), step=step, emits=True)

    def _end(self) -> Iterator[Call]:
        x, last = f"{self.stage}.x", self.passes - 1

        def out(values: Tensors) -> Tensors:
            sides = {
                f"{self.stage}.side{number}": torch.zeros(size) + values[x].sum()
                for number, size in enumerate(self.sides)
            }
            return {f"{self.stage}.out": values[x], **sides}

        chunk = self.passes if self.consumes else 0
        yield Call("end", out, (x,), step=last, chunk=chunk)


@attrs.frozen
class ToyGraph:
    """Programs in order, and the models that they use by name."""

    programs: tuple[ToyStage, ...]
    models: Mapping[str, BoundModule]


def draw(rng: random.Random, most_stages: int) -> ToyGraph:
    """Draw a graph of one to *most_stages* stages."""
    programs: list[ToyStage] = []
    models: dict[str, BoundModule] = {}
    for number in range(rng.randint(1, most_stages)):
        model = _model(rng, number, models)
        before = programs[-1] if programs else None
        streams = before is not None and before.emits
        ended = programs[:-1] if streams else programs  # a consumer begins before its producer ends
        made = [name for program in ended for name in program.makes]
        programs.append(
            ToyStage(
                stage=f"s{number}",
                model=model,
                rows=rng.choice((8, 32, 128)),
                passes=before.passes if before is not None and streams else rng.randint(1, 3),
                reads=tuple(rng.sample(made, min(len(made), rng.randint(0, 3)))),
                sides=tuple(rng.randint(1, 4096) for _ in range(rng.randint(0, 2))),
                has_states=rng.random() < 0.4,
                emits=not streams and rng.random() < 0.3,
                consumes=before.stage if before is not None and streams else None,
                knobs=(_ROWS_KNOB,) if rng.random() < 0.5 else (),
            )
        )
    if programs[-1].emits:  # nobody takes it
        programs[-1] = attrs.evolve(programs[-1], emits=False)
    return ToyGraph(tuple(programs), models)


def _model(rng: random.Random, number: int, models: dict[str, BoundModule]) -> BoundModule | None:
    """A new model, one that an earlier stage has, or none."""
    way = rng.random()
    if way < 0.15:
        return None
    if way < 0.35 and models:
        return models[rng.choice(sorted(models))]
    name, blocks = f"m{number}", rng.randint(1, 4)
    with torch.device("meta"):
        module = Toy(blocks).eval().requires_grad_(requires_grad=False)
    names = [parameter for parameter, _ in module.named_parameters()]
    segments = {
        f"block.{i}": tuple(n for n in names if n.startswith(f"blocks.{i}.")) for i in range(blocks)
    }
    staging = rng.choice((0, 0, 8192))
    models[name] = BoundModule(name, module, Segmentation(segments, {}), staging, "fp32")
    return models[name]
