"""The samplers as functions of a step: diffusers' schedulers with their history handed in and out.

A multistep sampler remembers earlier predictions. Here that history is named tensors that the
scheduler owns like any other state: it can spill, be saved, and be counted. Each step builds the
diffusers object anew (about a millisecond) and gives it its memory back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

HISTORY = "m"  # predictions of earlier steps, oldest first: m0, m1
LAST = "last"  # UniPC's latents before its last step


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


def _prepared(sampler: str, shift: float, steps: int) -> Any:
    made = _MAKERS[sampler](shift)
    made.set_timesteps(steps)
    made.set_begin_index(0)
    return made


def timesteps(sampler: str, shift: float, steps: int) -> torch.Tensor:
    """Return the timesteps `[steps]` that the model is asked at."""
    return torch.as_tensor(_prepared(sampler, shift, steps).timesteps.clone())


def history_names(sampler: str) -> tuple[str, ...]:
    """The history a sampler keeps between steps."""
    return {"unipc": ("m0", "m1", LAST), "dpm++": ("m0", "m1"), "euler": ()}[sampler]


def step(
    sampler: str,
    shift: float,
    steps: int,
    index: int,
    prediction: torch.Tensor,
    latents: torch.Tensor,
    history: Mapping[str, torch.Tensor],
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Take step *index* of *steps*: return the new latents and the new history."""
    made = _prepared(sampler, shift, steps)
    _restore(made, sampler, index, history)
    (after,) = made.step(prediction, made.timesteps[index], latents, return_dict=False)
    return after, _kept(made, sampler)


def _restore(made: Any, sampler: str, index: int, history: Mapping[str, torch.Tensor]) -> None:
    made._step_index = index  # noqa: SLF001 - where a resumed schedule stands
    if sampler == "euler":
        return
    order = made.config.solver_order
    made.lower_order_nums = min(index, order)
    made.model_outputs = [history.get(f"{HISTORY}{i}") for i in range(order)]
    if sampler == "unipc":
        made.last_sample = history.get(LAST)
        made.this_order = _order_of(made, index - 1)
        asked = made.timesteps[max(index - order, 0) : index]
        made.timestep_list = [None] * (order - len(asked)) + list(asked)


def _order_of(made: Any, index: int) -> int:
    """The order of UniPC's predictor at *index*, as `UniPCMultistepScheduler.step` works it out.

    The corrector of the next step runs at it.
    """
    order = int(made.config.solver_order)
    if made.config.lower_order_final:
        order = min(order, len(made.timesteps) - index)
    return max(min(order, index + 1), 1)


def _kept(made: Any, sampler: str) -> dict[str, torch.Tensor]:
    if sampler == "euler":
        return {}
    kept = {f"{HISTORY}{i}": t for i, t in enumerate(made.model_outputs) if t is not None}
    if sampler == "unipc":
        kept[LAST] = made.last_sample
    return kept
