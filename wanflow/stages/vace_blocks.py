"""The order of a transformer's blocks, VACE's among them, and the calls around VACE's.

    hidden   embed --+--- block 0 --+------ block 1 --- ..
    control    `- begin --- vace 0 -'- hint 0 --- ..

Two states are alive, whatever the number of hints. The passes that share the weights go through a
block, then through the one beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from wanflow.errors import InputError
from wanflow.graph import PortRef
from wanflow.models.wan import dit_vace
from wanflow.models.wan.dit_rows import Rows
from wanflow.scheduler.program import Call, ShapeOf, Tensors
from wanflow.stages.base import StageSetup


@attrs.frozen
class BlockList:
    """A list of alike blocks in the module, and the state `[1, tokens, width]` they work on."""

    path: str
    state: str
    kind: str  # how the kinds of their calls begin

    def block(self, module: Any, index: int) -> Any:
        """One of them."""
        return getattr(module, self.path)[index]


MAIN = BlockList("blocks", "hidden", "block")
VACE = BlockList(dit_vace.LAYERS, "control", "vace")

Piece = Callable[[str, BlockList, int], Call]  # of a pass, one of a list's blocks


@attrs.frozen
class BlockCalls:
    """Every block's calls for the passes that go through them together; *rows* None for all.

    *pieces* are those of a block. *own* are the rows that this rank has of the sequence; VACE's
    state has the same ones.
    """

    setup: StageSetup
    pieces: tuple[Piece, ...]
    rows: Rows | None
    in_parts: bool
    own: slice | None = None
    _made: dict[tuple[str, ...], tuple[Call, ...]] = attrs.field(factory=dict, init=False, eq=False)

    @property
    def _module(self) -> Any:
        return self.setup.module().module

    def calls(self, passes: tuple[str, ...], step: int) -> Iterator[Call]:
        """Yield what stands between the embeddings and the head; nothing for no passes.

        No step makes a difference to them, so they are made once.
        """
        if passes not in self._made:
            self._made[passes] = tuple(self._calls(passes)) if passes else ()
        yield from (call.at(step) for call in self._made[passes])

    def _calls(self, passes: tuple[str, ...]) -> Iterator[Call]:
        control = control_of(self.setup)
        if control:
            yield from (self._begin(name, control) for name in passes)
        for index in range(len(self._module.blocks)):
            beside = dit_vace.number_at(self._module, index)
            turns = [(MAIN, index)] + ([] if beside is None else [(VACE, beside)])
            for blocks, number in turns:
                for piece in self.pieces:
                    yield from (piece(name, blocks, number) for name in passes)
            if beside is not None:
                yield from (self._hint(name, beside) for name in passes)

    @property
    def _how(self) -> str:
        return "" if self.rows is None else f".{self.rows.size}"

    def _begin(self, name: str, control: str) -> Call:
        own, module, rows = self.setup.own, self._module, self.rows
        hidden = own(f"{MAIN.state}.{name}")

        def run(values: Tensors) -> Tensors:
            told = values[control], values[hidden]
            if rows is None:
                state = dit_vace.begin(module, *told)
            else:
                state = dit_vace.begin_by_rows(module, *told, rows, self.own)
            return {own(f"{VACE.state}.{name}"): state}

        segment = self.setup.module().segment_of("patch_embedding", "vace_patch_embedding")
        kind = f"vace.begin.{name}{self._how}"
        return Call(kind, run, (control, hidden), segment=segment)

    def _hint(self, name: str, number: int) -> Call:
        own, rows, beside = self.setup.own, self.rows, VACE.block(self._module, number)
        hidden, state = own(f"{MAIN.state}.{name}"), own(f"{VACE.state}.{name}")
        scale = float(str(self.setup.param("control_scale")))

        def run(values: Tensors) -> Tensors:
            if rows is None:
                return {hidden: dit_vace.hinted(beside, values[hidden], values[state], scale)}
            dit_vace.hint_by_rows(beside, values[hidden], values[state], scale, rows)
            return {hidden: values[hidden]}

        at = f"{VACE.path}.{number}.proj_out"
        segment = self.setup.module().segment_of(at, part=self.in_parts)
        return Call(f"vace.hint.{name}{self._how}", run, (hidden, state), segment=segment)


def check_control(setup: StageSetup, shape: ShapeOf, latent_shape: tuple[int, ...]) -> None:
    """InputError where a control is of other frames or of another size than the latents."""
    if control := control_of(setup):
        frames, *sides = shape(control)[2:]
        if (frames, *sides) != latent_shape[2:]:
            raise InputError(
                f"stage '{setup.bound.name}': its control has {frames} latent frames of "
                f"{'*'.join(map(str, sides[::-1]))}, its noise {latent_shape[2]} of "
                f"{'*'.join(map(str, latent_shape[:2:-1]))}",
                hint="wire size, frames and reference_images to both",
                code="model-mismatch",
            )


def control_of(setup: StageSetup) -> str:
    """The value that a VACE model is told, "" for another; InputError where one goes without."""
    is_there = isinstance(setup.bound.inputs.get("control"), PortRef)
    module: Any = setup.module().module
    space, takes = setup.around.latent_space, hasattr(module, dit_vace.LAYERS)
    channels = 2 * space.channels + space.spatial**2
    wrong = ""
    if is_there is not takes:
        wrong = "wants a control" if takes else "takes no control: it has no blocks of VACE"
    elif takes and channels != module.config.vace_in_channels:
        wrong = f"wants {module.config.vace_in_channels} channels of control, there are {channels}"
    if wrong:
        message = f"stage '{setup.bound.name}': its model {wrong}"
        raise InputError(message, code="model-mismatch")
    return setup.source("control") if takes else ""
