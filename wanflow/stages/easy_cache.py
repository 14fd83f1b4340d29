"""EasyCache: a step is left out when the data say that the prediction would hardly change.

It looks at the latents and at what the transformer made of them, so that no plan knows its steps: a
plan has every call, and is a promise for memory; at a step that is left out the blocks' calls give
their states back as they are. What the plan brings of their weights it brings all the same.

    decide    how much the latents changed, times the last known rate: left out while it adds up to
              less than the threshold
    settle    computed: what the pass made less the latents is held; left out: it is added again

Source: H-EmbodVis/EasyCache@5127804 EasyCache4Wan2.1/easycache_generate.py, `easycache_forward`.
The pass with the prompt decides for both; the first steps (a share of them here, ten there) and the
last are always computed.

All that is looked at and held is of the latents' shape, so each of several ranks has all of it once
the predictions are whole. The first one's number decides for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs
import torch

from wanflow.scheduler.program import Call, Tensors
from wanflow.stages.base import StageSetup
from wanflow.stages.denoise_ranks import Sharing
from wanflow.stages.step_cache import PASSES
from wanflow.stages.vace_blocks import MAIN, VACE

_BLOCKS = (f"{MAIN.kind}.", f"{VACE.kind}.")
MARKS = "state.easy.skipped"  # the state that has the steps that were left out
_LEADING = PASSES[0]  # the pass that decides


def is_left_out(kind: str) -> bool:
    """Whether a call of this kind does nothing at a step that is left out."""
    return kind.startswith(_BLOCKS)


@attrs.define
class EasyCache:
    """The calls of one drive through a stage. `_idle`: this step is left out, once it is decided.

    States, beside a residual `kept.PASS` of the latents' shape each: `seen`, the latents of the
    step before; `input` and `output` of the last computed step; `rate` `[2]` fp32, the change of
    the output to that of the input, and the error that has added up; `skipped` `[steps]`, a one for
    each step that was left out.
    """

    setup: StageSetup
    sharing: Sharing | None = None
    _idle: bool = attrs.field(default=False, init=False)

    @property
    def is_on(self) -> bool:
        """Whether the stage has one."""
        reuse = self.setup.bound.reuse
        return reuse is not None and reuse.kind == "easycache"

    def _own(self, name: str) -> str:
        return self.setup.own(f"state.easy.{name}")

    def decided(self, step: int, latents: str) -> Iterator[Call]:
        """Yield the call that decides, before anything else of a step."""
        if self.is_on:
            yield self._decide(step, latents)

    def around(self, calls: Iterator[Call], *, in_place: bool) -> Iterator[Call]:
        """Yield the calls of a forward, those of blocks so that they can be passed by."""
        for call in calls:
            passes_by = self.is_on and is_left_out(call.kind)
            yield self._passed_by(call, in_place=in_place) if passes_by else call

    def settled(self, passes: tuple[str, ...], step: int, latents: str) -> Iterator[Call]:
        """Yield what follows the heads of all passes, once their predictions are there."""
        if self.is_on:
            yield from (self._settle(name, step, latents) for name in passes)

    def _decide(self, step: int, latents: str) -> Call:
        """Decide whether a step is computed, from the latents alone."""
        reuse, steps = self.setup.bound.reuse, self.setup.bound.steps
        may = reuse is not None and steps[step] in reuse.may
        threshold = reuse.threshold if reuse is not None else 0.0
        seen, output, rate, skipped = map(self._own, ("seen", "output", "rate", "skipped"))

        def measured(values: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
            """The error that has added up, this step's with it, and the rate."""
            now = values[latents]
            if seen not in values:
                none = torch.full((), math.inf, device=now.device)
                return none, none
            size = values[output].float().abs().mean()
            change = (now - values[seen]).abs().mean()
            known, error = values[rate].unbind()
            error = error + known * (change / size)
            if self.sharing is not None:
                self.sharing.agreed(error)
            return error, known

        def given(values: Tensors, error: torch.Tensor, known: torch.Tensor) -> Tensors:
            marks = values.get(skipped)
            if marks is None:
                marks = torch.zeros(len(steps), dtype=torch.int64, device=error.device)
            marks = marks.clone()
            marks[step] = int(self._idle)
            kept = error if self._idle else torch.zeros_like(error)
            return {
                seen: values[latents].clone(),
                rate: torch.stack([known, kept]),
                skipped: marks,
            }

        def run(values: Tensors) -> Tensors:
            error, known = measured(values)
            self._idle = may and bool(error < threshold)
            return given(values, error, known)

        def planned(values: Tensors) -> Tensors:
            self._idle = False
            return given(values, *measured(values))

        reads = (latents, seen, output, rate, skipped)
        return Call(f"easy.decide.{len(steps)}", run, reads, step=step, stand_in=planned)

    def _passed_by(self, call: Call, *, in_place: bool) -> Call:
        """Give a call of a block that returns its states as they are where a step is left out.

        They are new tensors, as the plan has it, but for calls that update them *in_place*.
        """
        parts, own = call.kind.split("."), self.setup.own
        name = next(part for part in parts if part in PASSES)
        begins, attends = "begin" in parts, "attn1" in parts  # a state is made; scales are too
        is_control = parts[0] == VACE.kind and "hint" not in parts
        state = own(f"{(VACE if is_control else MAIN).state}.{name}")
        source = own(f"{MAIN.state}.{name}") if begins else state

        def run(values: Tensors) -> Tensors:
            if not self._idle:
                return call.run(values)
            as_is = values[source] if in_place and not begins else values[source].clone()
            scales = values[own(f"modulation.{name}")].float().clone() if attends else None
            return {state: as_is, **({own(f"scales.{name}"): scales} if scales is not None else {})}

        return attrs.evolve(call, run=run)

    def _settle(self, name: str, step: int, latents: str) -> Call:
        """Hold what a computed pass made, or make the prediction of what is held."""
        prediction, kept = self.setup.own(f"prediction.{name}"), self._own(f"kept.{name}")
        before, output, rate = map(self._own, ("input", "output", "rate"))
        leads = name == _LEADING

        def run(values: Tensors) -> Tensors:
            made, now = values[prediction], values[latents]
            if self._idle:
                made.copy_(now + values[kept])
                held = {kept: values[kept].clone()}
                again = {n: values[n].clone() for n in (before, output, rate) if leads}
                return {prediction: made, **held, **again}
            held = {kept: made.float() - now}
            if leads:
                held |= {before: now.clone(), output: made.clone(), rate: rated(values)}
            return {prediction: made, **held}

        def rated(values: Tensors) -> torch.Tensor:
            """The rate that the last two computed steps show; none before there are two."""
            error = values[rate][1:]
            if before not in values:
                return torch.cat([torch.full_like(error, math.inf), error])
            change = (values[prediction].float() - values[output].float()).abs().mean()
            moved = (values[latents] - values[before]).abs().mean()
            return torch.cat([(change / moved).reshape(1), error])

        reads = (latents, prediction, kept, *((before, output, rate) if leads else ()))
        return Call(f"easy.settle.{name}", run, reads, step=step)
