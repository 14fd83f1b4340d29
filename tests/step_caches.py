"""Step caches as their authors have them: they decide as they go, inside diffusers' pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline

from tests.jobs import TINY
from tests.pipelines import parts_of

Leaves = Callable[[int, int], bool]  # of a pass (0, 1) and a step: whether blocks are left out


class CachedBlocks(torch.nn.Module):
    """All blocks as one, or the residual of the last time; called for both passes by turns."""

    def __init__(self, blocks: Any, leaves_out: Leaves) -> None:
        super().__init__()
        self.blocks, self._leaves_out = blocks, leaves_out
        self._calls, self._held = 0, {}
        self.skipped: list[list[int]] = [[], []]

    def forward(self, hidden: torch.Tensor, *given: Any) -> torch.Tensor:
        """Run the blocks or don't."""
        step, turn = divmod(self._calls, 2)
        self._calls += 1
        if self._leaves_out(turn, step):
            self.skipped[turn].append(step)
            return hidden + self._held[turn]
        before = hidden
        for block in self.blocks:
            hidden = block(hidden, *given)
        self._held[turn] = hidden - before
        return hidden


@attrs.define
class MagCache:
    """Its counters, a pair each."""

    ratios: Sequence[float]  # with the first step's pair
    threshold: float
    retention: float
    k: int
    errors: list[float] = attrs.field(factory=lambda: [0.0, 0.0], init=False)
    rows: list[int] = attrs.field(factory=lambda: [0, 0], init=False)
    products: list[float] = attrs.field(factory=lambda: [1.0, 1.0], init=False)

    def __call__(self, turn: int, step: int) -> bool:
        """Count a call."""
        count = 2 * step + turn
        if count < int(len(self.ratios) * self.retention):
            return False
        self.products[turn] *= self.ratios[count]
        self.rows[turn] += 1
        self.errors[turn] += abs(1 - self.products[turn])
        if self.errors[turn] < self.threshold and self.rows[turn] <= self.k:
            return True
        self.errors[turn], self.rows[turn], self.products[turn] = 0.0, 0, 1.0
        return False


@attrs.define
class TeaCache:
    """Its counters; `now` is the time embedding of the call, by a hook."""

    coefficients: Sequence[float]
    threshold: float
    steps: int
    now: Any = attrs.field(default=None, init=False)
    before: list[Any] = attrs.field(factory=lambda: [None, None], init=False)
    errors: list[float] = attrs.field(factory=lambda: [0.0, 0.0], init=False)

    def hook(self, _module: Any, _given: Any, made: torch.Tensor) -> None:
        """See what the time embedder made."""
        self.now = made

    def __call__(self, turn: int, step: int) -> bool:
        """Count a call."""
        before, self.before[turn] = self.before[turn], self.now
        if step in (0, self.steps - 1):
            self.errors[turn] = 0.0
            return False
        change = (self.now - before).abs().mean() / before.abs().mean()
        self.errors[turn] += float(np.poly1d(self.coefficients)(change.item()))
        if self.errors[turn] < self.threshold:
            return True
        self.errors[turn] = 0.0
        return False


class EasyCache:
    """Around a whole transformer; `skipped` steps are those of both passes."""

    def __init__(self, forward: Any, threshold: float, first: int, steps: int) -> None:
        self._forward, self._threshold = forward, threshold
        self._first, self._steps, self._calls = first, steps, 0
        self._seen = self._input = self._output = self._rate = None
        self._error, self._idle, self._held = 0.0, False, {}
        self.skipped: list[int] = []

    def __call__(self, hidden_states: torch.Tensor, **given: Any) -> tuple[torch.Tensor, ...]:
        """Run it or don't."""
        step, turn = divmod(self._calls, 2)
        self._calls += 1
        now = hidden_states
        if turn == 0:
            self._decide(step, now)
        if self._idle:
            return (now + self._held[turn],)
        (made,) = self._forward(hidden_states=now, **given)
        if turn == 0:
            if self._output is not None:
                moved = (now - self._input).abs().mean()
                self._rate = (made - self._output).abs().mean() / moved
            self._input, self._output = now.clone(), made.clone()
        self._held[turn] = made - now
        return (made,)

    def _decide(self, step: int, now: torch.Tensor) -> None:
        self._idle = False
        if step < self._first or step == self._steps - 1:
            self._error = 0.0
        elif self._rate is not None:
            change = (now - self._seen).abs().mean()
            self._error += float(self._rate * (change / self._output.abs().mean()))
            self._idle = self._error < self._threshold
            self._error = self._error if self._idle else 0.0
        self._seen = now.clone()
        if self._idle:
            self.skipped.append(step)


def pipeline(shift: float) -> Any:
    """The tiny model's, with UniPC."""
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    made = WanPipeline(**parts_of(TINY), scheduler=scheduler)
    made.set_progress_bar_config(disable=True)
    return made
