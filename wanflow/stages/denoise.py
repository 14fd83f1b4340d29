"""Denoise latents: the transformer twice a step (with and without the prompt), then the sampler."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import cast

import attrs

from wanflow.models.trees.attention import NATIVE
from wanflow.models.wan import dit
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.profile.attention_backend import with_meant
from wanflow.scheduler.program import Call, ShapeOf, Tensors
from wanflow.scheduler.ranks import Exchange, Rank
from wanflow.stages import denoise_rows, samplers
from wanflow.stages.base import StageProgram
from wanflow.stages.cached_calls import CachedCalls
from wanflow.stages.cached_ranks import RankedCache
from wanflow.stages.conditions import Conditions
from wanflow.stages.denoise_ranks import Sharing, share_knob, sharing_of
from wanflow.stages.denoise_rows import RowCalls
from wanflow.stages.easy_cache import EasyCache
from wanflow.stages.preview import PreviewCalls
from wanflow.stages.samplers import Sampling
from wanflow.stages.vace_blocks import MAIN, BlockCalls, BlockList, check_control

_CFG = Knob(
    "cfg",
    {"serial": "bitwise", "paired": "bitwise"},
    "serial: one whole forward for each of the two guidance passes, as diffusers does; "
    "paired: both passes a block at a time, so that streamed blocks are read once a step",
)
_SPLIT = Knob(
    "split",
    {"whole": "bitwise", "parts": "bitwise"},
    "whole: a block's weights are there at once; parts: those of its self-attention, its "
    "cross-attention and its feed-forward one after the other",
    levels={"parts": 3},
)
COMPILE = Knob(
    "compile",
    {"off": "bitwise", "on": "rounding"},
    "on: what a block does between its matrix products is one compiled kernel each "
    "(torch.compile); compiling takes its time before the first run",
    searched=False,
)


@attrs.frozen
class Denoise(StageProgram):
    """Turns noise into `latents` `[1, C, F, h, w]`. Guidance of 1 or less takes one pass a step.

    The order of operations is diffusers' own (`WanPipeline.__call__`, step 6).
    """

    @property
    def steps(self) -> int:
        """Denoising steps: those of the schedule that are this stage's."""
        return len(self.setup.bound.steps)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """How the two passes of guidance share the weights, and what is there of a block."""
        rows = denoise_rows.knob(self.setup)
        own: tuple[Knob, ...] = (_SPLIT, rows, COMPILE)
        if (rank := self.setup.around.rank) is not None:
            own = (share_knob(self.setup, rank, self._passes), *own)
        return (_CFG, *own) if len(self._passes) > 1 else own

    def work_of(
        self, rank: Rank, exchange: Exchange, share: str, latent_shape: tuple[int, ...]
    ) -> tuple[object, ...]:
        """What a rank has of the stage: two that have the same have equal costs.

        But for the frames that its first and last rows lie in, which it embeds as a whole.
        *latent_shape* is that of the noise.
        """
        sharing = Sharing(self.setup, rank, exchange, share, self._passes)
        rows = sharing.rows(latent_shape)
        if rows is None:
            return sharing.own_passes
        return (*sharing.own_passes, rows.ranks, rows.own.stop - rows.own.start)

    @functools.cached_property
    def _given(self) -> Conditions:
        return Conditions.of(self.setup)

    @property
    def _guidance(self) -> float:
        return float(cast("float", self.setup.param("guidance")))

    @property
    def _passes(self) -> tuple[str, ...]:
        return ("positive", "negative") if self._guidance > 1 else ("positive",)

    @property
    def _sampling(self) -> Sampling:
        return Sampling.of(self.setup.bound.params)

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield: the tables once; then each step's passes, guidance and sampler step."""
        backend, calls = str(self.setup.param("attention")), self._calls(knobs, shape)
        if backend == NATIVE:
            yield from calls
            return
        for call in calls:
            yield attrs.evolve(call, run=with_meant(backend, call.run))

    def _calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        noise = self.setup.source("latents")
        latent_shape, latents = shape(noise), noise
        sharing = sharing_of(self.setup, knobs, self._passes)
        by_rows, blocks = self._by_rows(knobs, sharing, latent_shape), self._blocks(knobs)
        yield self._tables(by_rows, noise)
        yield self._timesteps()
        check_control(self.setup, shape, latent_shape)
        if "source" in self.setup.bound.inputs:
            latents = self.setup.own("latents")
            yield self._noised(noise)
        easy = EasyCache(self.setup, sharing)
        previews = PreviewCalls(self.setup, self._sampling, self.setup.own("prediction.positive"))
        for step in range(self.steps):
            yield from easy.decided(step, latents)
            for names in self._groups(knobs, sharing):
                if by_rows is not None:
                    calls = by_rows.forward(names, step, latents, latent_shape)
                else:
                    calls = self._forward(names, step, latents, latent_shape, blocks)
                yield from easy.around(calls, in_place=by_rows is not None)
            if sharing is not None:
                yield from sharing.traded(step)
                yield from RankedCache(sharing, latent_shape).calls(step)
            yield from easy.settled(self._passes, step, latents)
            yield from self._guided(step)
            yield from previews.calls(step, latents, latent_shape)
            yield self._sample(step, latents, self.setup.own("prediction.positive"))
            latents = self.setup.own("latents")
        if self._given.replaces:
            yield self._replace()
        references = latent_shape[2] - self.setup.around.latent_shape[2]
        if references > 0 and self.setup.bound.steps.stop == self._sampling.steps:
            yield self._cut(references)

    def _tables(self, by_rows: RowCalls | None, latents: str) -> Call:
        """Make what depends on the latents' shape alone."""
        return self._rotary(latents) if by_rows is None else by_rows.tables(latents)

    def tables(self, knobs: Mapping[str, str], latent_shape: tuple[int, ...]) -> Call:
        """The call that makes the tables of these knobs again, between two steps."""
        sharing = sharing_of(self.setup, knobs, self._passes)
        by_rows = self._by_rows(knobs, sharing, latent_shape)
        return self._tables(by_rows, self.setup.own("latents"))

    def _groups(
        self, knobs: Mapping[str, str], sharing: Sharing | None
    ) -> tuple[tuple[str, ...], ...]:
        """Passes that go through the blocks together."""
        passes = self._passes if sharing is None else sharing.own_passes
        if knobs.get("cfg") == "paired":
            return (passes,)
        return tuple((name,) for name in passes)

    def _by_rows(
        self, knobs: Mapping[str, str], sharing: Sharing | None, latent_shape: tuple[int, ...]
    ) -> RowCalls | None:
        value = knobs.get("rows", "all")
        in_parts = knobs.get("split") == "parts"
        compiled = knobs.get(COMPILE.name) == "on"
        if sharing is not None:  # always by rows: what is saved fits any number of ranks
            return RowCalls(self.setup, value, in_parts, compiled, sharing.rows(latent_shape))
        if value == "all" and not compiled:
            return None
        return RowCalls(self.setup, value, in_parts, compiled)

    def _blocks(self, knobs: Mapping[str, str]) -> BlockCalls:
        """The blocks' calls where they take all rows at once."""
        in_parts = knobs.get("split") == "parts"
        pieces = (self._attend, self._cross, self._feed) if in_parts else (self._block,)
        return BlockCalls(self.setup, pieces, None, in_parts)

    def _rotary(self, noise: str) -> Call:
        own, module, device = self.setup.own, self.module, self.setup.around.device
        conditions = self._given

        def rotary(values: Tensors) -> Tensors:
            cos, sin = dit.rotary_tables(module, values[noise], device)
            tables = {own("rope.cos"): cos, own("rope.sin"): sin}
            if conditions.times:
                tables[conditions.times] = conditions.index(values, noise)
            return tables

        return Call("rotary", rotary, (noise, *(conditions.reads if conditions.times else ())))

    def _replace(self) -> Call:
        """Put the given frames back where the model has denoised them too."""
        latents, conditions = self.setup.own("latents"), self._given

        def run(values: Tensors) -> Tensors:
            return {latents: conditions.replaced(values, latents)}

        return Call("replace", run, (latents, *conditions.reads), step=self.steps - 1)

    def _cut(self, references: int) -> Call:
        """Take the latent frames of the references off again, which stand before the video's."""
        latents = self.setup.own("latents")

        def run(values: Tensors) -> Tensors:
            return {latents: values[latents][:, :, references:].clone()}

        return Call("cut", run, (latents,), step=self.steps - 1)

    def _timesteps(self) -> Call:
        own, device, steps = self.setup.own, self.setup.around.device, self.setup.bound.steps

        def times(_values: Tensors) -> Tensors:
            own_ones = self._sampling.timesteps()[steps.start : steps.stop].clone()
            return {own("timesteps"): own_ones.to(device)}

        return Call(f"timesteps.{len(steps)}", times, numeric=True)

    def _noised(self, noise: str) -> Call:
        """Start from a source instead of noise alone."""
        source, own = self.setup.source("source"), self.setup.own

        def run(values: Tensors) -> Tensors:
            start = samplers.noised(self._sampling, values[source], values[noise])
            return {own("latents"): start}

        return Call("noised", run, (source, noise), numeric=True)

    def _forward(
        self,
        passes: tuple[str, ...],
        step: int,
        latents: str,
        latent_shape: tuple[int, ...],
        blocks: BlockCalls,
    ) -> Iterator[Call]:
        for name in passes:
            yield self._embed(name, step, latents)
        cached = CachedCalls(self.setup)
        yield from cached.before(passes, step)
        yield from blocks.calls(cached.computed(passes, step), step)
        yield from cached.after(passes, step)
        for name in passes:
            yield self._head(name, step, latent_shape)

    def _embed(self, name: str, step: int, latents: str) -> Call:
        own, module = self.setup.own, self.module
        text, conditions = f"{self.setup.source('text')}.{name}", self._given

        def run(values: Tensors) -> Tensors:
            at = conditions.distinct(values[own("timesteps")][step])
            joined = conditions.joined(values, latents)
            embedded = dit.embed(module, joined, at, values[text], conditions.seen(values))
            return {
                own(f"hidden.{name}"): embedded.hidden,
                own(f"time.{name}"): embedded.time,
                own(f"modulation.{name}"): embedded.modulation,
                own(f"context.{name}"): embedded.context,
            }

        reads = (latents, own("timesteps"), text, *conditions.reads)
        segment = self.bound_model.segment_of("patch_embedding", "condition_embedder")
        return Call(f"embed.{name}", run, reads, segment=segment, step=step)

    def _block(self, name: str, blocks: BlockList, index: int) -> Call:
        own, block = self.setup.own, blocks.block(self.module, index)
        conditions = self._given
        forward = dit.block if blocks is MAIN else dit.in_parts
        hidden, modulation = own(f"{blocks.state}.{name}"), own(f"modulation.{name}")
        context, cos, sin = own(f"context.{name}"), own("rope.cos"), own("rope.sin")

        def run(values: Tensors) -> Tensors:
            rotary = (values[cos], values[sin])
            state = values[hidden], values[context], values[modulation]
            return {hidden: forward(block, *state, rotary, conditions.named(values))}

        reads = (hidden, context, modulation, cos, sin, *conditions.timed)
        segment = self.bound_model.segment_of(f"{blocks.path}.{index}.attn1")
        return Call(f"{blocks.kind}.{name}", run, reads, segment=segment)

    def _attend(self, name: str, blocks: BlockList, index: int) -> Call:
        own, block = self.setup.own, blocks.block(self.module, index)
        conditions = self._given
        hidden, modulation = own(f"{blocks.state}.{name}"), own(f"modulation.{name}")
        scales, cos, sin = own(f"scales.{name}"), own("rope.cos"), own("rope.sin")

        def run(values: Tensors) -> Tensors:
            rotary = (values[cos], values[sin])
            state = values[hidden], values[modulation]
            out, scaling = dit.attend(block, *state, rotary, conditions.named(values))
            return {hidden: out, scales: scaling}

        at = f"{blocks.path}.{index}"
        segment = self.bound_model.segment_of(f"{at}.attn1", f"{at}.scale_shift_table", part=True)
        reads = (hidden, modulation, cos, sin, *conditions.timed)
        return Call(f"{blocks.kind}.attn1.{name}", run, reads, segment=segment)

    def _cross(self, name: str, blocks: BlockList, index: int) -> Call:
        own, block = self.setup.own, blocks.block(self.module, index)
        hidden, context = own(f"{blocks.state}.{name}"), own(f"context.{name}")

        def run(values: Tensors) -> Tensors:
            return {hidden: dit.cross(block, values[hidden], values[context])}

        at, kind = f"{blocks.path}.{index}", f"{blocks.kind}.attn2.{name}"
        segment = self.bound_model.segment_of(f"{at}.attn2", f"{at}.norm2", part=True)
        return Call(kind, run, (hidden, context), segment=segment)

    def _feed(self, name: str, blocks: BlockList, index: int) -> Call:
        own, block = self.setup.own, blocks.block(self.module, index)
        conditions = self._given
        hidden, scales = own(f"{blocks.state}.{name}"), own(f"scales.{name}")

        def run(values: Tensors) -> Tensors:
            state = values[hidden], values[scales]
            return {hidden: dit.feed(block, *state, conditions.named(values))}

        segment = self.bound_model.segment_of(f"{blocks.path}.{index}.ffn", part=True)
        kind, reads = f"{blocks.kind}.ffn.{name}", (hidden, scales, *conditions.timed)
        return Call(kind, run, reads, segment=segment)

    def _head(self, name: str, step: int, latent_shape: tuple[int, ...]) -> Call:
        own, module = self.setup.own, self.module
        conditions = self._given
        hidden, time = own(f"hidden.{name}"), own(f"time.{name}")

        def run(values: Tensors) -> Tensors:
            state = values[hidden], values[time]
            out = dit.head(module, *state, latent_shape, conditions.named(values))
            return {own(f"prediction.{name}"): out}

        segment = self.bound_model.segment_of("proj_out", "scale_shift_table")
        return Call(
            f"head.{name}", run, (hidden, time, *conditions.timed), segment=segment, step=step
        )

    def _guided(self, step: int) -> Iterator[Call]:
        own, guidance = self.setup.own, self._guidance
        positive, negative = own("prediction.positive"), own("prediction.negative")

        def guide(values: Tensors) -> Tensors:
            toward = values[positive] - values[negative]
            return {positive: values[negative] + guidance * toward}

        if len(self._passes) > 1:
            yield Call("guide", guide, (positive, negative), step=step)

    def _sample(self, step: int, latents: str, prediction: str) -> Call:
        own, sampling, index = self.setup.own, self._sampling, self.setup.bound.steps[step]
        home = self._history(step)
        names = {f"{home}.state.{n}": n for n in samplers.history_names(sampling.sampler)}

        def run(values: Tensors) -> Tensors:
            history = {short: values[name] for name, short in names.items() if name in values}
            after, history = samplers.step(
                sampling, index, values[prediction], values[latents], history
            )
            return {own("latents"): after, **{own(f"state.{n}"): t for n, t in history.items()}}

        # The first steps warm the history up and the last lower the order: costs of their own.
        done, left = min(index - sampling.first, 2), sampling.steps - index
        phase = f"end{left}.{done}" if left <= 2 else str(done)
        reads = (latents, prediction, *names)
        return Call(f"sample.{phase}", run, reads, step=step, numeric=True)

    def _history(self, step: int) -> str:
        """The stage whose history a step goes on with: at first that of the stage before."""
        is_handed_over = step == 0 and "history" in self.setup.bound.inputs
        return self.setup.source("history").partition(".")[0] if is_handed_over else self.stage
