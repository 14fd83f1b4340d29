"""The calls of a step cache around a transformer's blocks.

    computed, held for later   copy the hidden state - blocks - the copy becomes what they added
    left out                   what they added before is added again

The copy is there because blocks may update the hidden state in place. What is held is a state of
the stage, `[1, tokens, width]` a pass, as wide as the hidden state itself. A rank that has a share
of the rows copies and adds these; after a step it makes the state whole (`cached_ranks.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from wanflow.scheduler.program import Call, Tensors
from wanflow.stages.base import StageSetup
from wanflow.stages.step_cache import PASSES

if TYPE_CHECKING:  # a plan that was made before loads no torch
    from wanflow.models.wan.dit_ranks import RowShare

REUSE = "cache.reuse"  # how the kinds of the calls begin that stand for all blocks


@attrs.frozen
class CachedCalls:
    """What goes before and after the blocks at each step; nothing where nothing is asked for."""

    setup: StageSetup
    share: RowShare | None = None  # of the rows, where the hidden state has no others

    def computed(self, passes: tuple[str, ...], step: int) -> tuple[str, ...]:
        """The passes that go through the blocks at a step of the stage."""
        reuse, index = self.setup.bound.reuse, self.setup.bound.steps[step]
        return tuple(n for n in passes if reuse is None or not reuse.leaves_out(n, index))

    def before(self, passes: tuple[str, ...], step: int) -> Iterator[Call]:
        """Yield a copy of the hidden state of each pass that is held."""
        for name in self.held(passes, step):
            yield self._copy(name, step)

    def after(self, passes: tuple[str, ...], step: int) -> Iterator[Call]:
        """Yield what is held of the computed passes, and what is added to the others."""
        done, held = self.computed(passes, step), self.held(passes, step)
        for name in passes:
            if name not in done:
                yield self._again(name, step)
            elif name in held:
                yield self._hold(name, step)

    def held(self, passes: tuple[str, ...], step: int) -> tuple[str, ...]:
        """The passes of which a step is held for the steps after it."""
        reuse, steps = self.setup.bound.reuse, self.setup.bound.steps
        if reuse is None or reuse.kind == "easycache" or steps[step] + 1 not in steps:
            return ()
        return tuple(name for name in passes if reuse.holds(name, steps[step]))

    def state(self, name: str) -> str:
        """The name of what is held of a pass from step to step."""
        return self.setup.own(f"state.residual.{name}")

    def made(self, name: str) -> str:
        """The name of what a step makes of it: of a rank's own rows another value."""
        return self.state(name) if self.share is None else self.setup.own(f"residual.{name}")

    def _hidden(self, name: str) -> str:
        return self.setup.own(f"hidden.{name}")

    def _copy(self, name: str, step: int) -> Call:
        hidden, made = self._hidden(name), self.made(name)
        reuse = self.setup.bound.reuse

        def run(values: Tensors) -> Tensors:
            return {made: values[hidden].clone()}

        # Where no plan knows which steps are left out, what is held is there as if all were.
        waits = map(self.state, PASSES) if reuse is not None and reuse.may else ()
        return Call(f"cache.copy.{name}", run, (hidden, *waits), step=step)

    def _hold(self, name: str, step: int) -> Call:
        hidden, made = self._hidden(name), self.made(name)

        def run(values: Tensors) -> Tensors:
            copy = values[made]
            copy.neg_().add_(values[hidden])  # a - b and -b + a have the same bits
            return {made: copy}

        return Call(f"cache.hold.{name}", run, (hidden, made), step=step)

    def _again(self, name: str, step: int) -> Call:
        hidden, state, share = self._hidden(name), self.state(name), self.share

        def run(values: Tensors) -> Tensors:
            held = values[state] if share is None else values[state][:, share.own]
            return {hidden: values[hidden].add_(held)}

        return Call(f"{REUSE}.{name}", run, (hidden, state), step=step)
