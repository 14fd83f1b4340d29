"""A frame in strips is the frame as a whole: Wan 2.1's VAE and Wan 2.2's, random weights."""

import pytest
import torch
from diffusers import AutoencoderKLWan

from wanflow.models.wan import decoder_strips as lines
from wanflow.models.wan import vae
from wanflow.models.wan.strip import ROWS, StripPlace, is_turned

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
SHAPES = [(1, 6, 9), (2, 9, 6), (3, 2, 14), (5, 3, 7)]


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
    turned, total = is_turned(latents.shape), max(latents.shape[3:])
    features = list(whole_features(module, latents))
    kept, taken, frames = {}, {}, [[] for _ in features]
    for start in range(0, total, height):
        caches, stop = {}, min(start + height, total)
        for frame, whole in enumerate(features):
            x = lines.cut(whole, start, stop, turned=turned)
            for part in lines.parts(module):
                seen = taken.get((frame, part), 0)
                place = StripPlace(seen, x.shape[ROWS], frame == 0, stop == total, turned)
                sizes = lines.sizes(module, part, place, x.shape)
                line, cache = place.buffers(x, sizes, (kept.get((frame, part)), caches.get(part)))
                taken[frame, part] = seen + x.shape[ROWS]
                x = lines.run(module, part, x, place, line, cache)
                kept[frame, part], caches[part] = line, cache
                if x.shape[ROWS] == 0:
                    break
            else:
                frames[frame].append(x.transpose(3, 4) if turned else x)
    made = torch.cat([torch.cat(rows, 3 if turned else 4) for rows in frames], 2)
    return (vae.to_frames(module, made) - 0.5) / 0.5


class TestDecode:
    """Against diffusers' own `_decode`."""

    @pytest.mark.parametrize("height", [1, 3, 4])
    @pytest.mark.parametrize("shape", SHAPES)
    @torch.no_grad()
    def test_same_as_whole(self, module, shape, height):
        """Strips that don't divide the frame; 1 to 17 frames; lying, standing and thin."""
        latents = torch.randn(1, 4, *shape)
        expected = module.decode(latents).sample[0].transpose(0, 1)
        made = decode(module, latents, height)
        assert expected.shape == made.shape
        assert (expected - made).abs().max() <= 1e-5 * expected.abs().max()

    @pytest.mark.parametrize("shape", SHAPES)
    @torch.no_grad()
    def test_bf16_is_as_near(self, module, shape):
        """In bf16 strips are about as far from what fp32 makes of the same weights as diffusers."""
        module, latents = module.to(torch.bfloat16), torch.randn(1, 4, *shape).bfloat16()
        theirs = module.decode(latents).sample[0].transpose(0, 1).float()
        made = decode(module, latents, 3).float()
        exact = module.float().decode(latents.float()).sample[0].transpose(0, 1)
        assert (made - exact).norm() <= 1.25 * (theirs - exact).norm()
        assert (made - theirs).abs().max() <= 2**-3 * theirs.abs().max()


class TestRowsOut:
    """How far a part is behind."""

    @pytest.mark.parametrize("rows", [1, 5, 7, 9])
    @torch.no_grad()
    def test_is_what_is_made(self, module, rows):
        """The number that is told is the number of rows that a part gives."""
        width = module.decoder.mid_block.dim
        x, place = torch.randn(1, width, 1, 3, rows), StripPlace(0, rows, True, False)
        kept = place.buffers(x, lines.sizes(module, "up.0", place, x.shape), (None, None))
        made = lines.run(module, "up.0", x, place, *kept)
        assert lines.rows_out(module, "up.0", rows) == made.shape[ROWS]
