"""Samplers with their history handed in and out step as one diffusers object does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from wanflow.stages import samplers
from wanflow.stages.samplers import Sampling

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
            Sampling(sampler, shift, steps), index, noise(index + 1), latents.clone(), kept
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
                Sampling(sampler, shift, 6), index, noise(index + 1), latents, history
            )
        other = {name: tensor + 0.01 for name, tensor in history.items()}
        made, wrong = (
            samplers.step(Sampling(sampler, shift, 6), 2, noise(3), latents, kept)[0]
            for kept in (history, other)
        )
        assert torch.equal(made, wrong) == (sampler == "euler")

    @pytest.mark.parametrize("steps", [1, 3, 20])
    def test_timesteps(self, sampler, shift, steps):
        """The model is asked at upstream's timesteps."""
        expected, _ = upstream(sampler, shift, steps)
        assert torch.equal(Sampling(sampler, shift, steps).timesteps(), expected)


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
            latents, history = samplers.step(
                Sampling(sampler, 3.0, 6), index, noise(1), latents, history
            )
        assert samplers.history_names(sampler) == names
        assert set(history) == set(names)

    @pytest.mark.parametrize("sampler", UPSTREAM)
    def test_inputs_stay(self, sampler):
        """A step changes neither the latents nor the prediction it is given."""
        latents, prediction = noise(0), noise(1)
        samplers.step(Sampling(sampler, 3.0, 6), 0, prediction, latents, {})
        assert torch.equal(latents, noise(0))
        assert torch.equal(prediction, noise(1))


OFFICIAL = json.loads(Path(__file__).with_name("official_grids.json").read_text())["grids"]
STARTS = {"unipc": np.float64(np.float32(0.999)), "dpm++": 1.0}


class TestOfficialGrid:
    """The grid of Wan's own code: its numbers, and its formula at every number of steps."""

    @pytest.mark.parametrize(
        "grid", OFFICIAL, ids=lambda g: f"{g['solver']}-{g['shift']}-{g['steps']}"
    )
    def test_numbers(self, grid):
        """Levels and timesteps are those that Wan2.1's own schedulers gave."""
        sampling = Sampling(grid["solver"], grid["shift"], grid["steps"], "official")
        assert sampling.timesteps().tolist() == grid["timesteps"]
        assert sampling.sigmas().tolist() == pytest.approx(grid["sigmas"], abs=1e-6)

    @pytest.mark.parametrize("sampler", STARTS)
    @pytest.mark.parametrize("shift", [3.0, 5.0, 8.0, 12.0])
    def test_formula(self, sampler, shift):
        """From its start to 0 in even steps, shifted; timesteps are whole thousandths of it."""
        for steps in range(4, 51):
            sampling = Sampling(sampler, shift, steps, "official")
            even = STARTS[sampler] * (1 - np.arange(steps + 1) / steps)
            levels = shift * even / (1 + (shift - 1) * even)
            assert np.abs(sampling.sigmas().numpy() - levels).max() <= 1e-6
            cut = sampling.timesteps().numpy() - 1000 * levels[:-1]
            assert (cut <= 1e-6).all()
            assert (cut > -1 - 1e-6).all()

    @pytest.mark.parametrize("sampler", STARTS)
    def test_steps(self, sampler):
        """With its history handed on, each step is that of one object with the same levels."""
        sampling = Sampling(sampler, 5.0, 9, "official")
        whole, latents = UPSTREAM[sampler](5.0), noise(0)
        whole.set_timesteps(9)
        whole.timesteps, whole.sigmas = sampling.timesteps(), sampling.sigmas()
        ours, history = noise(0), {}
        for index, at in enumerate(whole.timesteps):
            latents = whole.step(noise(index + 1), at, latents, return_dict=False)[0]
            ours, history = samplers.step(sampling, index, noise(index + 1), ours, history)
            assert torch.equal(ours, latents)
            assert torch.isfinite(ours).all()
