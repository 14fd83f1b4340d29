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


class TestGiven:
    """Timesteps of a stage's own."""

    TIMES = (1000, 750, 500, 250)

    def test_are_before_the_shift(self):
        """As LightX2V's denoising_step_list: 4 steps at shift 5, the distilled models' own."""
        given = Sampling("euler", 5.0, 4, given=self.TIMES)
        wanted = torch.tensor([1000, 937.5, 2500 / 3, 625])
        assert torch.allclose(given.timesteps(), wanted, rtol=1e-6)
        assert torch.allclose(given.sigmas(), torch.cat([wanted / 1000, torch.zeros(1)]), rtol=1e-6)

    @pytest.mark.parametrize("boundary", [0.875, 0.9])
    def test_experts_have_two_each(self, boundary):
        """At both of A14B's boundaries."""
        given = Sampling("euler", 5.0, 4, given=self.TIMES)
        assert given.between(1, boundary) == range(2)
        assert given.between(boundary, 0) == range(2, 4)

    def test_steps_are_upstreams(self):
        """On explicit sigmas, bit for bit."""
        made = FlowMatchEulerDiscreteScheduler(shift=5.0)
        made.set_timesteps(sigmas=[t / 1000 for t in self.TIMES])
        latents, expected = noise(0), noise(0)
        for index, at in enumerate(made.timesteps):
            (expected,) = made.step(noise(index + 1), at, expected, return_dict=False)
            latents, _ = samplers.step(
                Sampling("euler", 5.0, 4, given=self.TIMES), index, noise(index + 1), latents, {}
            )
            assert torch.equal(latents, expected)


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


class TestSplit:
    """Two experts share the steps at a boundary, by the sampler's own timesteps."""

    @pytest.mark.parametrize("boundary", [0.875, 0.9])
    @pytest.mark.parametrize("shift", [3.0, 5.0, 8.0, 12.0, 16.0])
    @pytest.mark.parametrize("sampler", UPSTREAM)
    def test_is_what_diffusers_compares(self, sampler, shift, boundary):
        """`t >= boundary * 1000`, at every step count from 4 to 50."""
        for steps in range(4, 51):
            scheduler = UPSTREAM[sampler](shift)
            scheduler.set_timesteps(steps)
            high = [bool(t >= boundary * 1000) for t in scheduler.timesteps]
            sampling = Sampling(sampler, shift, steps)
            first, second = sampling.between(1, boundary), sampling.between(boundary, 0)
            assert [i for i, is_high in enumerate(high) if is_high] == list(first)
            assert [*first, *second] == list(range(steps))

    @pytest.mark.parametrize("grid", OFFICIAL, ids=lambda g: f"{g['solver']}-{g['shift']}")
    def test_is_what_the_official_code_compares(self, grid):
        """Its timesteps are whole numbers, cut off."""
        sampling = Sampling(grid["solver"], grid["shift"], grid["steps"], "official")
        high = [t for t in grid["timesteps"] if t >= 875]
        assert len(sampling.between(1, 0.875)) == len(high)

    @pytest.mark.parametrize(
        ("sampler", "grid", "steps", "shift", "boundary", "count"),
        [
            ("unipc", "official", 40, 12.0, 0.875, 26),
            ("dpm++", "official", 40, 12.0, 0.875, 26),
            ("unipc", "diffusers", 40, 12.0, 0.875, 26),
            ("euler", "diffusers", 40, 12.0, 0.875, 25),
            ("unipc", "official", 40, 5.0, 0.9, 15),
            ("unipc", "diffusers", 40, 5.0, 0.9, 15),
            ("euler", "diffusers", 40, 5.0, 0.9, 14),
            ("unipc", "official", 40, 3.0, 0.9, 10),
            ("unipc", "diffusers", 40, 3.0, 0.9, 11),
        ],
    )
    def test_of_the_recipes(self, sampler, grid, steps, shift, boundary, count):
        """Wan2.2's own, and where grids differ by a step."""
        sampling = Sampling(sampler, shift, steps, grid)
        assert len(sampling.between(1, boundary)) == count

    def test_a_share_of_the_steps(self):
        """A strength starts late in the schedule; nothing before that is anybody's."""
        sampling = Sampling("unipc", 5.0, 10, first=4)
        assert list(sampling.between(1, 0)) == list(range(4, 10))
        assert list(sampling.between(1, 0.99)) == []


@pytest.mark.parametrize("sampler", UPSTREAM)
@pytest.mark.parametrize("first", [1, 3, 5])
def test_begins_without_a_history(sampler, first):
    """Steps that begin in the middle of a schedule are those of an object that begins there."""
    scheduler, latents = UPSTREAM[sampler](3.0), noise(0)
    scheduler.set_timesteps(6)
    scheduler.set_begin_index(first)
    ours, history = latents, {}
    for index in range(first, 6):
        prediction = noise(index + 1)
        (latents,) = scheduler.step(
            prediction, scheduler.timesteps[index], latents, return_dict=False
        )
        sampling = Sampling(sampler, 3.0, 6, first=first)
        ours, history = samplers.step(sampling, index, prediction, ours.clone(), history)
        assert torch.equal(ours, latents), index
