"""The calls of a step cache around a transformer's blocks.

    computed, held for later   copy the hidden state - blocks - the copy becomes what they added
    left out                   what they added before is added again

The copy is there because blocks may update the hidden state in place. What is held is a state of
the stage, `[1, tokens, width]` a pass, as wide as the hidden state itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from wanflow.scheduler.program import Call, Tensors
from wanflow.stages.base import StageSetup

REUSE = "cache.reuse"  # how the kinds of the calls begin that stand for all blocks


@attrs.frozen
class CachedCalls:
    """What goes before and after the blocks at each step; nothing where nothing is asked for."""

    setup: StageSetup

    def computed(self, passes: tuple[str, ...], step: int) -> tuple[str, ...]:
        """The passes that go through the blocks at a step of the stage."""
        reuse, index = self.setup.bound.reuse, self.setup.bound.steps[step]
        return tuple(n for n in passes if reuse is None or not reuse.leaves_out(n, index))

    def before(self, passes: tuple[str, ...], step: int) -> Iterator[Call]:
        """Yield a copy of the hidden state of each pass that is held."""
        for name in passes:
            if self._holds(name, step):
                yield self._copy(name, step)

    def after(self, passes: tuple[str, ...], step: int) -> Iterator[Call]:
        """Yield what is held of the computed passes, and what is added to the others."""
        done = self.computed(passes, step)
        for name in passes:
            if name not in done:
                yield self._again(name, step)
            elif self._holds(name, step):
                yield self._hold(name, step)

    def _holds(self, name: str, step: int) -> bool:
        reuse, steps = self.setup.bound.reuse, self.setup.bound.steps
        if reuse is None or reuse.kind == "easycache" or steps[step] + 1 not in steps:
            return False
        return reuse.holds(name, steps[step])

    def _names(self, name: str) -> tuple[str, str]:
        return self.setup.own(f"hidden.{name}"), self.setup.own(f"state.residual.{name}")

    def _copy(self, name: str, step: int) -> Call:
        hidden, held = self._names(name)
        reuse = self.setup.bound.reuse

        def run(values: Tensors) -> Tensors:
            return {held: values[hidden].clone()}

        # Where no plan knows which steps are left out, what is held is there as if all were.
        waits = (held,) if reuse is not None and reuse.may else ()
        return Call(f"cache.copy.{name}", run, (hidden, *waits), step=step)

    def _hold(self, name: str, step: int) -> Call:
        hidden, held = self._names(name)

        def run(values: Tensors) -> Tensors:
            copy = values[held]
            copy.neg_().add_(values[hidden])  # a - b and -b + a have the same bits
            return {held: copy}

        return Call(f"cache.hold.{name}", run, (hidden, held), step=step)

    def _again(self, name: str, step: int) -> Call:
        hidden, held = self._names(name)

        def run(values: Tensors) -> Tensors:
            return {hidden: values[hidden].add_(values[held])}

        return Call(f"{REUSE}.{name}", run, (hidden, held), step=step)
