"""The samplers as functions of a step: schedulers with their history handed in and out.

A multistep sampler remembers earlier predictions. Here that history is named tensors that the
scheduler owns like any other state: it can spill, be saved, and be counted. Each step builds
the scheduler anew and gives it its memory back: UniPC's is ours, the others are diffusers'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import torch

from wanflow.graph.values import parse_numbers
from wanflow.stages.unipc import ORDER, UniPC

_TRAINING = 1000  # steps that a model was trained at, in all of diffusers' schedulers
HISTORY = "m"  # predictions of earlier steps, oldest first: m0, m1
LAST = "last"  # UniPC's latents before its last step


@attrs.frozen
class Sampling:
    """A sampler, the shift of its noise levels, how many steps, and whose grid of levels.

    `first` is the step that it begins at, with no history: of a video that is noised halfway.
    `given` are timesteps that take the place of the grid's, before the shift, one a step.
    """

    sampler: str
    shift: float
    steps: int
    grid: str = "diffusers"
    first: int = 0
    given: tuple[float, ...] = ()

    @classmethod
    def of(cls, params: Mapping[str, object]) -> Sampling:
        """Read the params of a stage; of *strength* as many of the last steps are run."""
        steps, shift = int(str(params["steps"])), float(str(params["shift"]))
        run = min(int(steps * float(str(params["strength"]))), steps)
        given = parse_numbers(str(params["timesteps"]))
        return cls(str(params["sampler"]), shift, steps, str(params["grid"]), steps - run, given)

    def between(self, noise_from: float, noise_to: float) -> range:
        """The steps whose timesteps are from a share of noise down to another, that included.

        A *noise_from* of 1 is the first step, whatever its timestep.
        """
        if (noise_from, noise_to) == (1, 0):
            return range(self.first, self.steps)
        times = self.timesteps().tolist()
        most = noise_from * _TRAINING if noise_from < 1 else math.inf
        least = noise_to * _TRAINING
        steps = [i for i in range(self.first, self.steps) if least <= times[i] < most]
        return range(steps[0], steps[-1] + 1) if steps else range(0)

    def timesteps(self) -> torch.Tensor:
        """Return the timesteps `[steps]` that the model is asked at."""
        return torch.as_tensor(_prepared(self).timesteps.clone())

    def sigmas(self) -> torch.Tensor:
        """Return the noise levels `[steps + 1]`, the last one being zero."""
        return torch.as_tensor(_prepared(self).sigmas.clone())


def _dpm(shift: float) -> Any:
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )


def _euler(shift: float) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=shift)


_MAKERS = {"unipc": UniPC, "dpm++": _dpm, "euler": _euler}

# Where the official grid starts before it is shifted. In Wan2.1's `wan/utils`, fm_solvers_unipc.py
# takes the largest of 1000 training levels, fm_solvers.py (get_sampling_sigmas) pure noise.
_OFFICIAL_START = {"unipc": 0.999, "dpm++": 1.0}


def _prepared(sampling: Sampling) -> Any:
    scheduler = _MAKERS[sampling.sampler](sampling.shift)
    if sampling.given:
        # Levels that are given are shifted like those of its own grid.
        scheduler.set_timesteps(sigmas=[t / _TRAINING for t in sampling.given])
    else:
        scheduler.set_timesteps(sampling.steps)
    if sampling.grid == "official":
        _use_official_grid(scheduler, sampling)
    if not isinstance(scheduler, UniPC):
        scheduler.set_begin_index(0)
    return scheduler


def _use_official_grid(scheduler: Any, sampling: Sampling) -> None:
    """Set the levels that Wan's own code has; diffusers' DPM-Solver++ takes none as an argument."""
    start, shift = _OFFICIAL_START[sampling.sampler], sampling.shift
    # The start is a float32 there and all that follows float64, by numpy: timesteps are cut to
    # whole numbers, so the last bit counts.
    levels = np.linspace(float(np.float32(start)), 0, sampling.steps + 1)[:-1]
    levels = shift * levels / (1 + (shift - 1) * levels)
    times = levels * _TRAINING
    scheduler.timesteps = torch.from_numpy(times).long()
    scheduler.sigmas = torch.from_numpy(np.append(levels, 0).astype(np.float32))


def history_names(sampler: str) -> tuple[str, ...]:
    """The history a sampler keeps between steps."""
    return {"unipc": ("m0", "m1", LAST), "dpm++": ("m0", "m1"), "euler": ()}[sampler]


def noised(sampling: Sampling, source: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Give the latents of a *source* with as much noise as the first step that is run wants."""
    scheduler = _prepared(sampling)
    if isinstance(scheduler, UniPC):
        return scheduler.noised(source, noise, sampling.first)
    scheduler.set_begin_index(sampling.first)
    at = scheduler.timesteps[sampling.first : sampling.first + 1]
    if sampling.sampler == "euler":
        return torch.as_tensor(scheduler.scale_noise(source, at, noise))
    return torch.as_tensor(scheduler.add_noise(source, noise, at))


def step(
    sampling: Sampling,
    index: int,
    prediction: torch.Tensor,
    latents: torch.Tensor,
    history: Mapping[str, torch.Tensor],
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Take step *index* of the whole schedule: return the new latents and the new history."""
    scheduler = _prepared(sampling)
    if isinstance(scheduler, UniPC):
        return _unipc_step(scheduler, sampling, index, prediction, latents, history)
    _restore(scheduler, sampling, index, history)
    (after,) = scheduler.step(prediction, scheduler.timesteps[index], latents, return_dict=False)
    return after, _history(scheduler, sampling.sampler)


def _restore(
    scheduler: Any, sampling: Sampling, index: int, history: Mapping[str, torch.Tensor]
) -> None:
    scheduler._step_index = index  # noqa: SLF001 - where a resumed schedule stands
    if sampling.sampler == "euler":
        return
    order, done = scheduler.config.solver_order, index - sampling.first
    scheduler.lower_order_nums = min(done, order)
    scheduler.model_outputs = [history.get(f"{HISTORY}{i}") for i in range(order)]


def _unipc_step(
    scheduler: UniPC,
    sampling: Sampling,
    index: int,
    prediction: torch.Tensor,
    latents: torch.Tensor,
    history: Mapping[str, torch.Tensor],
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    scheduler.index, scheduler.done = index, index - sampling.first
    scheduler.outputs = [history.get(f"{HISTORY}{i}") for i in range(ORDER)]
    scheduler.last = history.get(LAST)
    # The corrector runs at the order of the predictor before it.
    scheduler.order = scheduler.order_at(index - 1, scheduler.done - 1)
    after = scheduler.step(prediction, latents)
    made = {f"{HISTORY}{i}": t for i, t in enumerate(scheduler.outputs) if t is not None}
    return after, made | ({LAST: scheduler.last} if scheduler.last is not None else {})


def _history(scheduler: Any, sampler: str) -> dict[str, torch.Tensor]:
    if sampler == "euler":
        return {}
    outputs = enumerate(scheduler.model_outputs)
    return {f"{HISTORY}{i}": tensor for i, tensor in outputs if tensor is not None}
