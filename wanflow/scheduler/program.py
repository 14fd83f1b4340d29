"""What a stage hands to the scheduler: a program, an iterator of calls.

The profiler drives the iterator on fake tensors, the executor drives the same iterator for real.
A value is a named tensor (`denoise.latents`); a name whose second part is `state`
(`decode.state.mid.0`) lives across the steps of its stage. A program keeps no tensor of its own
between calls: what a call needs it reads by name, what it makes it returns by name.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs

from wanflow.scheduler.knobs import Knob, ProgramOutline

if TYPE_CHECKING:
    import torch

Tensors: TypeAlias = "Mapping[str, torch.Tensor]"

_NUMBER = re.compile(r"\.\d+")
GATHERED = "gathered rows"  # the name under which a call finds the rows it asked for


def is_state(name: str) -> bool:
    """Whether a value's name is that of a state: `stage.state.*`."""
    return name.split(".")[1] == "state"


@attrs.frozen
class Gather:
    """Rows of one weight, read from the file: `tensor` is its name, `ids` names an int64 value."""

    tensor: str
    ids: str


@attrs.frozen
class Call:
    """One call of a program.

    `kind`: calls of one stage with the same kind and the same inputs (names and shapes) cost the
    same and make values of the same names.
    `run`: takes the values named in `reads` (a name that doesn't exist yet is left out) and returns
    values by name: new tensors, each in a storage of its own, or an input tensor by a new name.
    `segment`: the weights bound while it runs. `chunk`: for the consumer of a stream, how many
    chunks must have been produced before it may run. `emits`: a chunk of this port is ready
    after it.
    `places`: a value that is one of many alike has a place in its name, after an `@`; two calls
    that differ only in these places cost the same.
    `stand_in`: what the profiler runs instead where `run` reaches outside tensors (a tokenizer, a
    file). `numeric`: the values of small tensors decide the course (a sampler's coefficients), so
    the profiler leaves those real.
    """

    kind: str
    run: Callable[[Tensors], Tensors]
    reads: tuple[str, ...] = ()
    segment: str | None = None
    gather: Gather | None = None
    step: int = 0
    chunk: int = 0
    emits: bool = False
    numeric: bool = False
    places: tuple[str, ...] = ()
    stand_in: Callable[[Tensors], Tensors] | None = None

    def at(self, step: int) -> Call:
        """The same call at another step; `attrs.evolve` takes four times as long."""
        return Call(
            self.kind, self.run, self.reads, self.segment, self.gather, step, self.chunk,
            self.emits, self.numeric, self.places, self.stand_in,
        )  # fmt: skip


@attrs.frozen
class TensorSpec:
    """One tensor of a segment: where it lies in the segment's slab. `shape` in elements."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    nbytes: int


@attrs.frozen
class Segment:
    """Weights that move as one; `nbytes` is the slab that holds them, alignment included.

    `file_bytes` are read for it: more, where floats are packed on their way.
    """

    name: str
    tensors: tuple[TensorSpec, ...]
    nbytes: int
    file_bytes: int = attrs.field(
        default=attrs.Factory(lambda self: self.nbytes, takes_self=True), kw_only=True
    )

    @functools.cached_property
    def layout(self) -> str:
        """What tells segments apart that calls of one kind take: blocks that have an adapter."""
        rows = [(_NUMBER.sub(".*", t.name), t.shape, str(t.dtype)) for t in self.tensors]
        return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


class Model(Protocol):
    """Weights of one part of a checkpoint, cut into segments, as the scheduler sees them."""

    @property
    def name(self) -> str:
        """The model's name in the graph."""

    @property
    def segments(self) -> Mapping[str, Segment]:
        """Every segment by name, in execution order."""

    @property
    def staging_bytes(self) -> int:
        """What reading a tensor needs besides its slab: 0 when the file has the wanted dtype."""

    def rows(self, tensor: str) -> TensorSpec:
        """The spec of one row of a weight that is gathered."""

    def bind(self, segment: str, tensors: Tensors) -> None:
        """Let the module's parameters of *segment* be these tensors; no copy."""

    def unbind(self, segment: str) -> None:
        """Forget them: afterwards nothing in the module holds their storage."""


class Program(Protocol):
    """A stage made ready to run: its knobs, and its calls for chosen knobs."""

    @property
    def stage(self) -> str:
        """The stage's id."""

    @property
    def op(self) -> str:
        """The kind of stage."""

    @property
    def steps(self) -> int:
        """How often the stage repeats; 1 for a stage that doesn't."""

    @property
    def model(self) -> Model | None:
        """The weights it uses."""

    @property
    def consumes(self) -> str | None:
        """The stage whose stream it consumes, chunk by chunk."""

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """What the planner may choose."""

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield the calls in order; the driver runs each before it asks for the next."""


def outline_of(program: Program) -> ProgramOutline:
    """Give what planning asks of a program besides its calls."""
    has_model = program.model is not None
    return ProgramOutline(program.stage, program.steps, has_model, program.consumes, program.knobs)


@attrs.define  # two of these a call: a frozen one takes twice as long to make
class Outputs:
    """What a call returned: new tensors, and inputs (by their name) that got a new name."""

    makes: Mapping[str, torch.Tensor]
    renames: Mapping[str, str]


def split_outputs(outputs: Tensors, inputs: Tensors) -> Outputs:
    """Tell new tensors from inputs that a call passes on under another name."""
    names = {id(tensor): name for name, tensor in inputs.items()}
    makes: dict[str, torch.Tensor] = {}
    renames: dict[str, str] = {}
    for name, tensor in outputs.items():
        given = names.get(id(tensor))
        if given is None:
            makes[name] = tensor
        else:
            renames[name] = given
    return Outputs(makes, renames)


class ShapeOf(Protocol):
    """Tell the shape of a value that exists by now."""

    def __call__(self, name: str) -> tuple[int, ...]:
        """Give the shape of the value *name*."""


@attrs.define
class Placed:
    """A call in the order of the whole graph."""

    program: Program
    call: Call


def interleave(
    programs: tuple[Program, ...], knobs: Mapping[str, Mapping[str, str]], shape: ShapeOf
) -> Iterator[Placed]:
    """Run the programs in order; a consumer of a stream takes its turn after each chunk.

    One chunk is in flight: the consumers of a chunk run before the producer's next call.
    Closing the iterator closes every program, so that one with an open file can put it away.
    """
    consumers = {p.stage: p for p in programs if p.consumes is not None}
    for program in programs:
        if program.stage in consumers:
            continue
        followers = [p for p in consumers.values() if p.consumes == program.stage]
        yield from _with_followers(program, followers, knobs, shape)


def _with_followers(
    program: Program,
    followers: list[Program],
    knobs: Mapping[str, Mapping[str, str]],
    shape: ShapeOf,
) -> Iterator[Placed]:
    turns = [_Turns(p, p.calls(knobs.get(p.stage, {}), shape)) for p in followers]
    calls = program.calls(knobs.get(program.stage, {}), shape)
    chunks = 0
    try:
        for call in calls:
            yield Placed(program, call)
            if call.emits:
                chunks += 1
                for turn in turns:
                    yield from turn.until(chunks)
        for turn in turns:
            yield from turn.until(None)
    finally:
        for iterator in (calls, *(turn.calls for turn in turns)):
            close = getattr(iterator, "close", None)
            if close is not None:
                close()


class _Turns:
    """A consumer's calls, handed out as its chunks appear."""

    def __init__(self, program: Program, calls: Iterator[Call]) -> None:
        self.program = program
        self.calls = calls
        self._waiting: Call | None = None

    def until(self, chunks: int | None) -> Iterator[Placed]:
        """Yield the calls that need no more than `chunks` chunks; None for all that are left."""
        while True:
            call = self._waiting if self._waiting is not None else next(self.calls, None)
            self._waiting = None
            if call is None:
                return
            if chunks is not None and call.chunk > chunks:
                self._waiting = call
                return
            yield Placed(self.program, call)
