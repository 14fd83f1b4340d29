"""Samplers with their history handed in and out step as one diffusers object does."""

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from wanflow.stages import samplers

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
UPSTREAM = {
    "unipc": lambda shift: UniPCMultistepScheduler(**FLOW, flow_shift=shift),
    "dpm++": lambda shift: DPMSolverMultistepScheduler(**FLOW, flow_shift=shift),
    "euler": lambda shift: FlowMatchEulerDiscreteScheduler(shift=shift),
}
SHAPE = (1, 16, 3, 4, 6)


def noise(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def upstream(sampler, shift, steps):
    """The timesteps and the latents after each step, from one object."""
    made, latents, trail = UPSTREAM[sampler](shift), noise(0), []
    made.set_timesteps(steps)
    for index, at in enumerate(made.timesteps):
        latents = made.step(noise(index + 1), at, latents, return_dict=False)[0]
        trail.append(latents)
    return made.timesteps, trail


def ours(sampler, shift, steps):
    """The latents after each step; between steps only the named history is kept."""
    latents, history, trail = noise(0), {}, []
    for index in range(steps):
        kept = {name: tensor.clone() for name, tensor in history.items()}
        latents, history = samplers.step(
            sampler, shift, steps, index, noise(index + 1), latents.clone(), kept
        )
        assert set(history) <= set(samplers.history_names(sampler))
        trail.append(latents)
    return trail


@pytest.mark.parametrize("sampler", UPSTREAM)
@pytest.mark.parametrize("shift", [3.0, 8.0])
class TestStep:
    """Bit for bit, at every step."""

    @pytest.mark.parametrize("steps", [1, 2, 3, 6, 20])
    def test_equal(self, sampler, shift, steps):
        """Each step gives the bits of an object that has stepped all the way."""
        _, expected = upstream(sampler, shift, steps)
        made = ours(sampler, shift, steps)
        assert len(made) == len(expected)
        assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))

    def test_history_counts(self, sampler, shift):
        """A multistep sampler with another history would not give these bits."""
        latents, history = noise(0), {}
        for index in range(2):
            latents, history = samplers.step(
                sampler, shift, 6, index, noise(index + 1), latents, history
            )
        other = {name: tensor + 0.01 for name, tensor in history.items()}
        made, wrong = (
            samplers.step(sampler, shift, 6, 2, noise(3), latents, kept)[0]
            for kept in (history, other)
        )
        assert torch.equal(made, wrong) == (sampler == "euler")

    @pytest.mark.parametrize("steps", [1, 3, 20])
    def test_timesteps(self, sampler, shift, steps):
        """The model is asked at upstream's timesteps."""
        expected, _ = upstream(sampler, shift, steps)
        assert torch.equal(samplers.timesteps(sampler, shift, steps), expected)


class TestHistory:
    """What is kept is what a saved run needs, and no more."""

    @pytest.mark.parametrize(
        ("sampler", "names"),
        [("unipc", ("m0", "m1", "last")), ("dpm++", ("m0", "m1")), ("euler", ())],
    )
    def test_names(self, sampler, names):
        """After two steps all of a sampler's history is there."""
        latents, history = noise(0), {}
        for index in range(2):
            latents, history = samplers.step(sampler, 3.0, 6, index, noise(1), latents, history)
        assert samplers.history_names(sampler) == names
        assert set(history) == set(names)

    @pytest.mark.parametrize("sampler", UPSTREAM)
    def test_inputs_stay(self, sampler):
        """A step changes neither the latents nor the prediction it is given."""
        latents, prediction = noise(0), noise(1)
        samplers.step(sampler, 3.0, 6, 0, prediction, latents, {})
        assert torch.equal(latents, noise(0))
        assert torch.equal(prediction, noise(1))
