"""The starting noise is diffusers' own, from a CPU generator."""

import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor

from wanflow.graph import Size


class TestNoise:
    """One draw of standard normal fp32."""

    @staticmethod
    def drawn(program, drive, seed, frames=9):
        inputs = {"size": Size(64, 32), "frames": frames, "seed": seed}
        return drive(program("noise", inputs, frames=frames), {})["noise.latents"]

    @pytest.mark.parametrize("seed", [0, 42, 2**63 - 1])
    @pytest.mark.parametrize("frames", [1, 9])
    def test_same_as_diffusers(self, program, drive, seed, frames):
        """The bits of `randn_tensor` with a CPU generator of that seed."""
        generator = torch.Generator("cpu").manual_seed(seed)
        shape = (1, 16, (frames - 1) // 4 + 1, 4, 8)
        expected = randn_tensor(shape, generator, torch.device("cpu"), torch.float32)
        assert torch.equal(self.drawn(program, drive, seed, frames), expected)

    def test_global_seed_is_left_alone(self, program, drive):
        """Drawing neither reads nor moves the process's own generator."""
        before = torch.get_rng_state()
        self.drawn(program, drive, 1)
        assert torch.equal(torch.get_rng_state(), before)

    def test_stand_in(self, program):
        """What the profiler sees has the shape and dtype of the real noise."""
        inputs = {"size": Size(64, 32), "frames": 9, "seed": 0}
        (call,) = program("noise", inputs).calls({}, lambda _name: ())
        real, fake = call.run({}), call.stand_in({})
        assert {n: (t.shape, t.dtype) for n, t in real.items()} == {
            n: (t.shape, t.dtype) for n, t in fake.items()
        }
