"""The transformer's calls a chunk of rows at a time: the hidden state is updated in place.

A call that does so returns it under its own name: the same value. Whoever would keep a block's
input beyond that call (a step cache) has to take a copy. Of a rank that has a share of the rows the
hidden state, VACE's and what a step cache holds are those rows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import attrs
import torch

from wanflow.models.wan import dit_compiled, dit_heads, dit_ranks, dit_rows
from wanflow.models.wan.dit_ranks import RowShare
from wanflow.models.wan.dit_rows import Rows, Scales
from wanflow.models.wan.rope import Grid, Rope, WholeRope, make_rope
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.program import Call, Tensors
from wanflow.stages.base import StageSetup
from wanflow.stages.cached_calls import CachedCalls
from wanflow.stages.conditions import Conditions
from wanflow.stages.vace_blocks import BlockCalls, BlockList

# A kernel may be picked by the number of rows, so that a row's last bits depend on it.
_CHOICES = {"all": "bitwise", "4096": "rounding", "1024": "rounding"}
_GROUPED = {"grouped": "rounding"}
_GROUPED_SIZE, _GROUPS = 1024, 8
_ALL = 1 << 30  # more rows than there are


def knob(setup: StageSetup) -> Knob:
    """How much of the sequence a kernel takes; `all` is the plain block."""
    alone = setup.around.rank is None  # ranks gather keys and values by groups of heads anyway
    groups = alone and dit_heads.can_group(setup.module().module)
    return Knob(
        "rows",
        _CHOICES | (_GROUPED if groups else {}),
        "all: a block takes the whole sequence at once; a number: so many rows at a time, with the "
        "keys and values of all of them once and the hidden state updated in place; grouped: keys "
        "and values of an eighth of the heads at a time too, for a few percent more work",
        # Between these comes what costs no work: blocks in parts, see `denoise.py`.
        levels={"4096": 1, "1024": 2} | ({"grouped": 4} if groups else {}),
    )


@attrs.frozen
class RowCalls:
    """Makes the calls of a forward for one value of the knob; `all` only where it is compiled.

    A block is one call, or with *in_parts* three, each with its own part of the weights. With
    *compiled* kernels, what goes by groups of heads stays as it is. With a *share* the hidden state
    is that of a rank's rows.
    """

    setup: StageSetup
    value: str
    in_parts: bool
    compiled: bool = False
    share: RowShare | None = None

    @property
    def rows(self) -> Rows:
        """The size of a chunk."""
        if self.value == "all":
            return Rows(_ALL)
        return Rows(_GROUPED_SIZE if self._is_grouped else int(self.value))

    @property
    def _own(self) -> slice | None:
        """The rows of a rank; None for all."""
        return None if self.share is None else self.share.own

    @property
    def _how(self) -> str:
        """What tells the blocks' calls apart from those at another setting."""
        by_heads = self.share is not None and self.share.by_heads
        return f"{self.value}{'.compiled' * self.compiled}{'.ulysses' * by_heads}"

    @property
    def _forms(self) -> Any:
        """The module with the functions of a block."""
        return dit_compiled if self.compiled else dit_rows

    @property
    def _rope_names(self) -> tuple[str, str]:
        names = ("table", "places") if self._turns_short else ("cos", "sin")
        return self.setup.own(f"rope.{names[0]}"), self.setup.own(f"rope.{names[1]}")

    @property
    def _turns_short(self) -> bool:
        ranks = self.setup.around.rank is not None
        return self._is_grouped or ranks or not self.compiled

    def _rope(self, values: Tensors) -> Rope | WholeRope:
        first, second = (values[name] for name in self._rope_names)
        if self.share is not None:
            second = second[:, self.share.own]
        return Rope(first, second) if self._turns_short else WholeRope(first, second)

    def _named(self, values: Tensors) -> torch.Tensor | None:
        """Which of the timesteps each token of the hidden state has."""
        index = self._given.named(values)
        return index if index is None or self.share is None else index[:, self.share.own]

    @property
    def _is_grouped(self) -> bool:
        return self.value == "grouped"

    @property
    def _module(self) -> Any:
        return self.setup.module().module

    def tables(self, noise: str) -> Call:
        """Make what all forwards look tokens up in: the rotary tables, a row a place, and times."""
        module, device = self._module, self.setup.around.device
        conditions = self._given

        def run(values: Tensors) -> Tensors:
            grid = Grid.of(module, tuple(values[noise].shape))
            rope = make_rope(module, grid, device)
            tables = attrs.astuple(rope if self._turns_short else WholeRope.of(rope), recurse=False)
            rotary = dict(zip(self._rope_names, tables, strict=True))
            if conditions.times:
                rotary[conditions.times] = conditions.index(values, noise)
            return rotary

        reads = conditions.reads if conditions.times else ()
        kind = "rotary.places" if self._turns_short else "rotary.whole"
        return Call(kind, run, (noise, *reads))

    @functools.cached_property
    def _given(self) -> Conditions:
        return Conditions.of(self.setup)

    def forward(
        self, passes: tuple[str, ...], step: int, latents: str, latent_shape: tuple[int, ...]
    ) -> Iterator[Call]:
        """Yield the calls of the passes that go through the blocks together."""
        for name in passes:
            yield self._embed(name, step, latents)
        cached = CachedCalls(self.setup, self.share)
        yield from cached.before(passes, step)
        yield from self._blocks.calls(cached.computed(passes, step), step)
        yield from cached.after(passes, step)
        for name in passes:
            yield self._head(name, step, latent_shape)

    @functools.cached_property
    def _blocks(self) -> BlockCalls:
        pieces = (self._attend, self._cross, self._feed) if self.in_parts else (self._block,)
        return BlockCalls(self.setup, pieces, self.rows, self.in_parts, self._own)

    def _embed(self, name: str, step: int, latents: str) -> Call:
        own, module, rows = self.setup.own, self._module, self.rows
        text, conditions = f"{self.setup.source('text')}.{name}", self._given

        def run(values: Tensors) -> Tensors:
            at = conditions.distinct(values[own("timesteps")][step])
            joined = conditions.joined(values, latents)
            seen = conditions.seen(values)
            embedded = dit_rows.embed(module, joined, at, values[text], rows, seen, self._own)
            return {
                own(f"hidden.{name}"): embedded.hidden,
                own(f"time.{name}"): embedded.time,
                own(f"modulation.{name}"): embedded.modulation,
                own(f"context.{name}"): embedded.context,
            }

        reads = (latents, own("timesteps"), text, *conditions.reads)
        segment = self.setup.module().segment_of("patch_embedding", "condition_embedder")
        return Call(f"embed.{name}.{self.rows.size}", run, reads, segment=segment, step=step)

    def _block(self, name: str, blocks: BlockList, index: int) -> Call:
        own, block, rows = self.setup.own, blocks.block(self._module, index), self.rows
        conditions = self._given
        hidden, modulation = own(f"{blocks.state}.{name}"), own(f"modulation.{name}")
        context, forms = own(f"context.{name}"), self._forms

        def run(values: Tensors) -> Tensors:
            x, rope = values[hidden], self._rope(values)
            scaled = dit_rows.scales(block, values[modulation], self._named(values))
            self._attended(block, x, scaled, rope)
            forms.cross(block, x, values[context], rows)
            forms.feed(block, x, scaled, rows)
            return {hidden: x}

        reads = (hidden, context, modulation, *self._rope_names, *conditions.timed)
        segment = self.setup.module().segment_of(f"{blocks.path}.{index}.attn1")
        return Call(f"{blocks.kind}.{name}.{self._how}", run, reads, segment=segment)

    def _attended(
        self, block: Any, x: torch.Tensor, scaled: Scales, rope: Rope | WholeRope
    ) -> None:
        if self.share is not None and isinstance(rope, Rope):
            dit_ranks.attend(block, x, scaled, rope, self.rows, self.share)
        elif self._is_grouped and isinstance(rope, Rope):
            dit_heads.attend(block, x, scaled, rope, self.rows, _GROUPS)
        else:
            self._forms.attend(block, x, scaled, rope, self.rows)

    def _attend(self, name: str, blocks: BlockList, index: int) -> Call:
        own, block = self.setup.own, blocks.block(self._module, index)
        conditions = self._given
        hidden, modulation = own(f"{blocks.state}.{name}"), own(f"modulation.{name}")
        scales = own(f"scales.{name}")

        def run(values: Tensors) -> Tensors:
            scaled = dit_rows.scales(block, values[modulation], self._named(values))
            self._attended(block, values[hidden], scaled, self._rope(values))
            return {hidden: values[hidden], scales: scaled.table}

        at = f"{blocks.path}.{index}"
        segment = self._part(f"{at}.attn1", f"{at}.scale_shift_table")
        reads = (hidden, modulation, *self._rope_names, *conditions.timed)
        kind = f"{blocks.kind}.attn1.{name}.{self._how}"
        return Call(kind, run, reads, segment=segment)

    def _cross(self, name: str, blocks: BlockList, index: int) -> Call:
        own, block, rows = self.setup.own, blocks.block(self._module, index), self.rows
        hidden, context = own(f"{blocks.state}.{name}"), own(f"context.{name}")
        forms = self._forms

        def run(values: Tensors) -> Tensors:
            forms.cross(block, values[hidden], values[context], rows)
            return {hidden: values[hidden]}

        segment = self._part(f"{blocks.path}.{index}.attn2", f"{blocks.path}.{index}.norm2")
        kind = f"{blocks.kind}.attn2.{name}.{self._how}"
        return Call(kind, run, (hidden, context), segment=segment)

    def _feed(self, name: str, blocks: BlockList, index: int) -> Call:
        own, block, rows = self.setup.own, blocks.block(self._module, index), self.rows
        conditions, forms = self._given, self._forms
        hidden, scales = own(f"{blocks.state}.{name}"), own(f"scales.{name}")

        def run(values: Tensors) -> Tensors:
            scaled = Scales(values[scales], self._named(values))
            forms.feed(block, values[hidden], scaled, rows)
            return {hidden: values[hidden]}

        segment = self._part(f"{blocks.path}.{index}.ffn")
        kind = f"{blocks.kind}.ffn.{name}.{self._how}"
        return Call(kind, run, (hidden, scales, *conditions.timed), segment=segment)

    def _part(self, *paths: str) -> str:
        return self.setup.module().segment_of(*paths, part=True)

    def _head(self, name: str, step: int, latent_shape: tuple[int, ...]) -> Call:
        own, module, rows = self.setup.own, self._module, self.rows
        conditions = self._given
        hidden, time = own(f"hidden.{name}"), own(f"time.{name}")

        def run(values: Tensors) -> Tensors:
            state, index = (values[hidden], values[time]), self._named(values)
            if self.share is None:
                out = dit_rows.head(module, *state, latent_shape, rows, index)
            else:
                out = dit_ranks.head(module, *state, latent_shape, rows, self.share, index)
            return {own(f"prediction.{name}"): out}

        # As many rows may be of more than one sequence: with references before the video.
        of_all = "" if self.share is None else f".of.{self.share.tokens}"
        kind = f"head.{name}.{self.rows.size}{of_all}"
        segment = self.setup.module().segment_of("proj_out", "scale_shift_table")
        return Call(kind, run, (hidden, time, *conditions.timed), segment=segment, step=step)
