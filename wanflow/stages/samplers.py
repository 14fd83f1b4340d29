"""The samplers as functions of a step: diffusers' schedulers with their history handed in and out.

A multistep sampler remembers earlier predictions. Here that history is named tensors that the
scheduler owns like any other state: it can spill, be saved, and be counted. Each step builds the
diffusers object anew (about a millisecond) and gives it its memory back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import torch

HISTORY = "m"  # predictions of earlier steps, oldest first: m0, m1
LAST = "last"  # UniPC's latents before its last step


@attrs.frozen
class Sampling:
    """A sampler, the shift of its noise levels, how many steps, and whose grid of levels."""

    sampler: str
    shift: float
    steps: int
    grid: str = "diffusers"

    def timesteps(self) -> torch.Tensor:
        """Return the timesteps `[steps]` that the model is asked at."""
        return torch.as_tensor(_prepared(self).timesteps.clone())

    def sigmas(self) -> torch.Tensor:
        """Return the noise levels `[steps + 1]`, the last one being zero."""
        return torch.as_tensor(_prepared(self).sigmas.clone())


def _unipc(shift: float) -> Any:
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )


def _dpm(shift: float) -> Any:
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )


def _euler(shift: float) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=shift)


_MAKERS = {"unipc": _unipc, "dpm++": _dpm, "euler": _euler}

# Where the official grid starts before it is shifted. In Wan2.1's `wan/utils`, fm_solvers_unipc.py
# takes the largest of 1000 training levels, fm_solvers.py (get_sampling_sigmas) pure noise.
_OFFICIAL_START = {"unipc": 0.999, "dpm++": 1.0}


def _prepared(sampling: Sampling) -> Any:
    scheduler = _MAKERS[sampling.sampler](sampling.shift)
    scheduler.set_timesteps(sampling.steps)
    if sampling.grid == "official":
        _use_official_grid(scheduler, sampling)
    scheduler.set_begin_index(0)
    return scheduler


def _use_official_grid(scheduler: Any, sampling: Sampling) -> None:
    """Set the levels that Wan's own code has; diffusers' DPM-Solver++ takes none as an argument."""
    start, shift = _OFFICIAL_START[sampling.sampler], sampling.shift
    # The start is a float32 there and all that follows float64, by numpy: timesteps are cut to
    # whole numbers, so the last bit counts.
    levels = np.linspace(float(np.float32(start)), 0, sampling.steps + 1)[:-1]
    levels = shift * levels / (1 + (shift - 1) * levels)
    times = levels * scheduler.config.num_train_timesteps
    scheduler.timesteps = torch.from_numpy(times).long()
    scheduler.sigmas = torch.from_numpy(np.append(levels, 0).astype(np.float32))


def history_names(sampler: str) -> tuple[str, ...]:
    """The history a sampler keeps between steps."""
    return {"unipc": ("m0", "m1", LAST), "dpm++": ("m0", "m1"), "euler": ()}[sampler]


def step(
    sampling: Sampling,
    index: int,
    prediction: torch.Tensor,
    latents: torch.Tensor,
    history: Mapping[str, torch.Tensor],
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Take step *index*: return the new latents and the new history."""
    scheduler = _prepared(sampling)
    _restore(scheduler, sampling.sampler, index, history)
    (after,) = scheduler.step(prediction, scheduler.timesteps[index], latents, return_dict=False)
    return after, _history(scheduler, sampling.sampler)


def _restore(scheduler: Any, sampler: str, index: int, history: Mapping[str, torch.Tensor]) -> None:
    scheduler._step_index = index  # noqa: SLF001 - where a resumed schedule stands
    if sampler == "euler":
        return
    order = scheduler.config.solver_order
    scheduler.lower_order_nums = min(index, order)
    scheduler.model_outputs = [history.get(f"{HISTORY}{i}") for i in range(order)]
    if sampler == "unipc":
        scheduler.last_sample = history.get(LAST)
        scheduler.this_order = _order_of(scheduler, index - 1)
        past = scheduler.timesteps[max(index - order, 0) : index]
        scheduler.timestep_list = [None] * (order - len(past)) + list(past)


def _order_of(scheduler: Any, index: int) -> int:
    """The order of UniPC's predictor at *index*, as `UniPCMultistepScheduler.step` works it out.

    The corrector of the next step runs at it.
    """
    order = int(scheduler.config.solver_order)
    if scheduler.config.lower_order_final:
        order = min(order, len(scheduler.timesteps) - index)
    return max(min(order, index + 1), 1)


def _history(scheduler: Any, sampler: str) -> dict[str, torch.Tensor]:
    if sampler == "euler":
        return {}
    outputs = enumerate(scheduler.model_outputs)
    history = {f"{HISTORY}{i}": tensor for i, tensor in outputs if tensor is not None}
    if sampler == "unipc":
        history[LAST] = scheduler.last_sample
    return history
