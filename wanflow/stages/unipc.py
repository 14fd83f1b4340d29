"""UniPC with flow sigmas, of second order and `bh2`: the sums of diffusers' in their order.

All graphs take it, and importing `diffusers.UniPCMultistepScheduler` costs more than a second and
ninety megabytes (`diffusers/utils/torch_utils.py` imports torch._dynamo). After diffusers 0.42,
`schedulers/scheduling_unipc_multistep.py`; Apache 2.0. Source: Zhao et al., "UniPC: A Unified
Predictor-Corrector Framework for Fast Sampling of Diffusion Models", arXiv:2302.04867.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import torch

ORDER = 2
TRAINING = 1000  # steps that a model was trained at
_EPS = 1e-6  # a level of exactly 1 has no logarithm of what is left


@attrs.frozen
class _Leap:
    """What a step from one level to another shares: the logarithms of signal to noise."""

    sigma: torch.Tensor
    alpha: torch.Tensor
    sigma_before: torch.Tensor
    log_before: torch.Tensor
    h: torch.Tensor

    @classmethod
    def between(cls, before: torch.Tensor, after: torch.Tensor) -> _Leap:
        log_before = _log_ratio(before)
        return cls(after, 1 - after, before, log_before, _log_ratio(after) - log_before)


def _log_ratio(sigma: torch.Tensor) -> torch.Tensor:
    return torch.log(1 - sigma) - torch.log(sigma)


@attrs.define(eq=False)
class UniPC:
    """The schedule of a run, and where it stands; what it remembers is handed in and out.

    `outputs` are the predictions of the last steps, oldest first, `last` the latents before the
    last step, `order` what the last step's predictor ran at, `done` how many steps were done, of
    which the order of the next ones depends.
    """

    shift: float
    timesteps: torch.Tensor = attrs.field(init=False)
    sigmas: torch.Tensor = attrs.field(init=False)
    index: int = 0
    outputs: list[torch.Tensor | None] = attrs.field(factory=lambda: [None] * ORDER)
    last: torch.Tensor | None = None
    order: int = 1
    done: int = 0

    def set_timesteps(self, steps: int = 0, sigmas: Sequence[float] | None = None) -> None:
        """Make the levels `[steps + 1]` and timesteps `[steps]`, or shift those that are given."""
        levels = (
            np.linspace(1, 1 / TRAINING, steps + 1)[:-1] if sigmas is None else np.asarray(sigmas)
        )
        levels = self.shift * levels / (1 + (self.shift - 1) * levels)
        if np.fabs(levels[0] - 1) < _EPS:
            levels[0] -= _EPS
        self.timesteps = torch.from_numpy((levels * TRAINING).copy()).to(torch.int64)
        self.sigmas = torch.from_numpy(np.concatenate([levels, [0]]).astype(np.float32))

    def order_at(self, index: int, done: int) -> int:
        """The order of the predictor at *index*, *done* steps before it: lower at both ends."""
        return max(min(ORDER, len(self.timesteps) - index, done + 1), 1)

    def noised(self, source: torch.Tensor, noise: torch.Tensor, index: int) -> torch.Tensor:
        """Give a *source* as much noise as the step *index* wants."""
        sigma = self.sigmas.to(source.device, source.dtype)[index]
        return (1 - sigma) * source + sigma * noise

    def step(self, prediction: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Take the step: the new latents; what is remembered is replaced."""
        output = latents - self.sigmas[self.index] * prediction
        if self.index > 0 and self.last is not None:
            latents = self._corrected(output, self.last, latents)
        self.outputs = [*self.outputs[1:], output]
        self.order = self.order_at(self.index, self.done)
        self.last = latents
        return self._predicted(latents)

    def _level(self, index: int, device: torch.device) -> torch.Tensor:
        return self.sigmas[index].to(device)

    def _predicted(self, x: torch.Tensor) -> torch.Tensor:
        device, latest = x.device, self._output(-1)
        step = _Leap.between(self._level(self.index, device), self._level(self.index + 1, device))
        growth = torch.expm1(-step.h)
        result = step.sigma / step.sigma_before * x - step.alpha * growth * latest
        rest: torch.Tensor | int = 0
        if self.order == ORDER:
            differences, _ = self._difference(step, self.index - 1, latest)
            weights = torch.ones(1, dtype=x.dtype, device=device) * 0.5
            rest = torch.einsum("k,bkc...->bc...", weights, differences)
        return (result - step.alpha * growth * rest).to(x.dtype)

    def _corrected(
        self, output: torch.Tensor, before: torch.Tensor, latents: torch.Tensor
    ) -> torch.Tensor:
        device, latest = latents.device, self._output(-1)
        step = _Leap.between(self._level(self.index - 1, device), self._level(self.index, device))
        growth = torch.expm1(-step.h)
        rest: torch.Tensor | int = 0
        if self.order == 1:
            weights = torch.ones(1, dtype=before.dtype, device=device) * 0.5
        else:
            differences, ratio = self._difference(step, self.index - 2, latest)
            weights = self._weights(step, ratio, growth).to(before.dtype)
            rest = torch.einsum("k,bkc...->bc...", weights[:-1], differences)
        result = step.sigma / step.sigma_before * before - step.alpha * growth * latest
        change = rest + weights[-1] * (output - latest)
        return (result - step.alpha * growth * change).to(before.dtype)

    def _difference(
        self, step: _Leap, index: int, latest: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The slope from the prediction before to the latest one, and the ratio of their steps."""
        ratio = (_log_ratio(self._level(index, latest.device)) - step.log_before) / step.h
        return torch.stack([(self._output(-2) - latest) / ratio], dim=1), ratio

    @staticmethod
    def _weights(step: _Leap, ratio: torch.Tensor, growth: torch.Tensor) -> torch.Tensor:
        """Solve for the corrector's weights, at second order."""
        ratios = torch.stack([ratio, torch.ones((), device=ratio.device)])
        hh, powers, targets = -step.h, [], []
        factorial, phi = 1, growth / -step.h - 1
        for power in range(ORDER):
            powers.append(torch.pow(ratios, power))
            targets.append(phi * factorial / growth)
            factorial *= power + 2
            phi = phi / hh - 1 / factorial
        return torch.as_tensor(torch.linalg.solve(torch.stack(powers), torch.stack(targets)))

    def _output(self, number: int) -> torch.Tensor:
        output = self.outputs[number]
        if output is None:
            msg = f"step {self.index} has no prediction {number}"
            raise AssertionError(msg)
        return output
