"""A frame in strips is the frame as a whole: Wan 2.1's VAE and Wan 2.2's, random weights."""

import pytest
import torch
from diffusers import AutoencoderKLWan

from wanflow.models import vae, vae_lines

COMMON = {
    "base_dim": 8, "z_dim": 4, "dim_mult": [1, 2, 4, 4],
    "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4,
}  # fmt: skip
CONFIGS = {
    "wan2.1": COMMON,
    "wan2.2": {
        **COMMON, "decoder_base_dim": 16, "is_residual": True, "patch_size": 2,
        "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16,
    },
}  # fmt: skip
# Differences of the largest value: fp32's sums in another order; bf16's step is 2 ** -8.
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 2**-6}


@pytest.fixture(params=CONFIGS)
def module(request):
    """A small VAE whose features keep their size from layer to layer."""
    torch.manual_seed(0)
    made = AutoencoderKLWan(**CONFIGS[request.param]).eval()
    for parameter in made.parameters():
        if parameter.dim() > 3:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return made


def whole_features(module, latents):
    """Each latent frame as the mid block leaves it."""
    first = module.post_quant_conv(latents)
    kept = {part: [None] * vae.cache_places(module, part) for part in ("in", "mid")}
    for frame in range(latents.shape[2]):
        x = first[:, :, frame : frame + 1]
        for part, cache in kept.items():
            x = vae.run(module, part, x, cache, first=frame == 0)
        yield x


def decode(module, latents, height):
    """Take strips of *height* rows, all frames of one after the other, as far as rows have come."""
    axis, total = vae_lines.axis_of(latents.shape), max(latents.shape[3:])
    features = list(whole_features(module, latents))
    lines, frames = {}, [[] for _ in features]
    for start in range(0, total, height):
        caches, bottom = {}, start + height >= total
        for frame, whole in enumerate(features):
            x = whole.narrow(axis, start, min(height, total - start))
            for part in vae_lines.parts(module):
                known = lines.get((frame, part), {}), caches.get(part, {})
                strip = vae_lines.Strip(axis, bottom, frame == 0, *known)
                x = vae_lines.run(module, part, x, strip, x.shape[axis])
                lines[frame, part], caches[part] = strip.made_lines, strip.made_cache
                if x.shape[axis] == 0:
                    break
            else:
                frames[frame].append(x)
    made = torch.cat([torch.cat(rows, axis) for rows in frames], 2)
    return (vae.to_frames(module, made) - 0.5) / 0.5


class TestDecode:
    """Against diffusers' own `_decode`."""

    @pytest.mark.parametrize("dtype", BOUNDS, ids=str)
    @pytest.mark.parametrize("height", [1, 3, 4])
    @pytest.mark.parametrize("shape", [(1, 6, 9), (2, 9, 6), (3, 2, 14), (5, 3, 7)])
    @torch.no_grad()
    def test_same_as_whole(self, module, shape, height, dtype):
        """Strips that don't divide the frame; 1 to 17 frames; lying, standing and thin."""
        module = module.to(dtype)
        latents = torch.randn(1, 4, *shape).to(dtype)
        expected = module.decode(latents).sample[0].transpose(0, 1).float()
        made = decode(module, latents, height).float()
        assert expected.shape == made.shape
        assert (expected - made).abs().max() <= BOUNDS[dtype] * expected.abs().max()


class TestRowsOut:
    """How far a part is behind."""

    @pytest.mark.parametrize("rows", [1, 5, 7, 9])
    @torch.no_grad()
    def test_is_what_is_made(self, module, rows):
        """The number that is told is the number of rows that a part gives."""
        width = module.decoder.mid_block.dim
        strip = vae_lines.Strip(4, bottom=False, first=True, lines={}, cache={})
        made = vae_lines.run(module, "up.0", torch.randn(1, width, 1, 3, rows), strip, rows)
        assert vae_lines.rows_out(module, "up.0", rows) == made.shape[4]
