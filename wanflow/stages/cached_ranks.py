"""What ranks do about a step cache, so that between steps all of them hold what one device would.

    within a step    a rank copies, holds and adds again the rows of its own pass
    after it         rows are gathered, and the halves of guidance give each other their passes'

So a step is decided, resumed and saved as on one device, by any number of ranks; and while blocks
run, which is when most memory is taken, no rank holds more than its rows of what it computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from wanflow.models.wan.dit_ranks import RowShare
from wanflow.models.wan.rope import Grid
from wanflow.scheduler.program import Call, Tensors
from wanflow.stages.cached_calls import REUSE, CachedCalls
from wanflow.stages.denoise_ranks import Sharing


@attrs.frozen
class RankedCache:
    """The calls after the forwards of a step; none where nothing is held."""

    sharing: Sharing
    latent_shape: tuple[int, ...]

    @property
    def _share(self) -> RowShare | None:
        return self.sharing.rows(self.latent_shape)

    @property
    def _cached(self) -> CachedCalls:
        return CachedCalls(self.sharing.setup, self._share)

    def calls(self, step: int) -> Iterator[Call]:
        """Yield what makes the states whole that a step made, and what keeps those it took."""
        share, passes = self._share, self.sharing.passes
        own, cached = self.sharing.own_passes, self._cached
        held, computed = cached.held(passes, step), cached.computed(passes, step)
        if share is not None:
            yield from (self._gather(name, step, share) for name in held if name in own)
        if held and own != passes:
            yield self._trade(held, step)
        yield from (self._keep(n, step) for n in passes if n not in own and n not in computed)

    def _gather(self, name: str, step: int, share: RowShare) -> Call:
        """Put all rows of a pass's residual together."""
        made, state = self._cached.made(name), self._cached.state(name)

        def run(values: Tensors) -> Tensors:
            return {state: share.gathered(values[made])}

        return Call(f"cache.gather.{name}.of.{share.tokens}", run, (made,), step=step)

    def _trade(self, held: tuple[str, ...], step: int) -> Call:
        """Give the rank in this one's place in the other half a pass's residual, and take one."""
        sharing, cached = self.sharing, self._cached
        (own,) = sharing.own_passes
        module: Any = sharing.setup.module().module
        width = module.config.num_attention_heads * module.config.attention_head_dim
        shape = (1, Grid.of(module, self.latent_shape).tokens, width)
        prediction = sharing.setup.own(f"prediction.{own}")  # of the hidden state's dtype
        gives = [cached.state(name) for name in held if name == own]
        takes = [cached.state(name) for name in held if name != own]

        def run(values: Tensors) -> Tensors:
            taken = {name: values[prediction].new_empty(shape) for name in takes}
            sharing.swap([values[name] for name in gives], list(taken.values()))
            return taken

        reads = (prediction, *gives)
        return Call(f"cache.trade.{'.'.join(held)}", run, reads, step=step)

    def _keep(self, name: str, step: int) -> Call:
        """Do nothing with what the other half adds again: it is still there after the step."""
        state = self._cached.state(name)

        def run(_values: Tensors) -> Tensors:
            return {}

        return Call(f"{REUSE}.away.{name}", run, (state,), step=step)
