"""The encoder by its parts, whole and in strips, is diffusers' own: Wan 2.1's VAE and Wan 2.2's."""

import pytest
import torch
from diffusers import AutoencoderKLWan

from tests.models.wan.test_decoder_strips import CONFIGS
from wanflow.models.wan import encoder_strips, vae_encoder
from wanflow.models.wan.strip import ROWS, StripPlace, Tape, is_turned, turn

BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 2**-6}

# Frames, latent rows and columns; bfloat16, which few CPUs are quick at, once.
CLIPS = [
    ((1, 3, 4), torch.float32), ((5, 5, 4), torch.float32), ((9, 2, 5), torch.float32),
    ((17, 3, 1), torch.float32), ((9, 2, 3), torch.bfloat16),
]  # fmt: skip


@pytest.fixture(params=CONFIGS)
def module(request):
    """A small VAE whose features keep their size from layer to layer, with latents to normalise."""
    torch.manual_seed(0)
    config = {
        **CONFIGS[request.param],
        "base_dim": 4,
        "latents_mean": [0.1] * 4,
        "latents_std": [1.5] * 4,
    }
    made = AutoencoderKLWan(**config).eval()
    for parameter in made.parameters():
        if parameter.dim() > 3:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return made


def clip_of(module, shape):
    frames, height, width = shape
    side = vae_encoder.spatial(module)
    return torch.rand(1, 3, frames, height * side, width * side) * 2 - 1


def chunks_of(clip):
    """A frame, then four at a time."""
    return clip[:, :, :1], *(clip[:, :, i : i + 4] for i in range(1, clip.shape[2], 4))


def expected(module, clip):
    """Encode as `WanImageToVideoPipeline.prepare_latents` does."""
    config, shape = module.config, (1, module.config.z_dim, 1, 1, 1)
    mode = module.encode(clip.to(module.dtype)).latent_dist.mode().to(torch.float32)
    mean = torch.tensor(config.latents_mean).view(shape)
    inverse = 1.0 / torch.tensor(config.latents_std).view(shape)
    return (mode - mean) * inverse


def in_parts(module, clip):
    """Drive the parts as a stage does: what is kept between chunks are tensors only."""
    kept = {p: [None] * vae_encoder.cache_places(module, p) for p in vae_encoder.parts(module)}
    moments = []
    for chunk in chunks_of(clip):
        x = vae_encoder.opened(module, chunk)
        for part, cache in kept.items():
            x = vae_encoder.run(module, part, x, cache)
            assert all(t is None or isinstance(t, torch.Tensor) for t in cache)
        moments.append(x)
    return vae_encoder.to_latents(module, torch.cat(moments, 2))


def buffers(module, place, x, kept=(None, None)):
    return place.buffers(x, encoder_strips.sizes(module, place, tuple(x.shape)), kept)


def noting(ends):
    """Note how far a tape has come, by its buffer."""
    take = Tape.take

    def taking(tape, shape):
        tensor = take(tape, shape)
        ends[id(tape.flat)] = tensor.storage_offset() + tensor.numel()
        return tensor

    return taking


def in_strips(module, clip, height):
    """Take strips of *height* latent rows, all chunks of one after the other."""
    turned = is_turned(clip.shape)
    opened = [turn(vae_encoder.opened(module, chunk), turned=turned) for chunk in chunks_of(clip)]
    total = opened[0].shape[ROWS]
    step = height * vae_encoder.spatial(module) // (module.config.patch_size or 1)
    lines, features = [None for _ in opened], [[] for _ in opened]
    for start in range(0, total, step):
        cache, rows = None, min(step, total - start)
        for index, chunk in enumerate(opened):
            place = StripPlace(start, rows, index == 0, start + step >= total, turned)
            x = chunk.narrow(ROWS, start, rows)
            lines[index], cache = buffers(module, place, x, (lines[index], cache))
            x = encoder_strips.run(module, x, place, lines[index], cache)
            if x.shape[ROWS]:
                features[index].append(turn(x, turned=turned))
    kept = {p: [None] * vae_encoder.cache_places(module, p) for p in vae_encoder.parts(module)}
    moments = []
    for rows in features:
        x = torch.cat(rows, 3 if turned else 4)
        for part in vae_encoder.whole_parts(module):
            x = vae_encoder.run(module, part, x, kept[part])
        moments.append(x)
    return vae_encoder.to_latents(module, torch.cat(moments, 2))


@pytest.mark.parametrize(("shape", "dtype"), CLIPS, ids=str)
class TestEncode:
    """Against diffusers' own `encode`."""

    @torch.no_grad()
    def test_in_parts(self, module, shape, dtype):
        """A chunk at a time, part by part, the latents are the same bits."""
        module, clip = module.to(dtype), clip_of(module, shape)
        made = in_parts(module, clip)
        assert torch.equal(expected(module, clip), made)
        assert made.dtype is torch.float32

    @pytest.mark.parametrize("height", [1, 2, 3])
    @torch.no_grad()
    def test_in_strips(self, module, shape, height, dtype):
        """Strips that don't divide the frame; 1 to 17 frames; lying, standing and thin."""
        module, clip = module.to(dtype), clip_of(module, shape)
        wanted = expected(module, clip)
        made = in_strips(module, clip, height)
        assert wanted.shape == made.shape
        assert (wanted - made).abs().max() <= BOUNDS[dtype] * wanted.abs().max()


class TestRowsOut:
    """How far the strips are behind."""

    @pytest.mark.parametrize("rows", [8, 15, 16, 33, 40, 41, 56])
    @torch.no_grad()
    def test_is_what_is_made(self, module, rows):
        """The number that is told is the number of rows that are given."""
        x = torch.randn(1, module.encoder.conv_in.in_channels, 1, 8, rows)
        place = StripPlace(0, rows, first=True, bottom=False)
        made = encoder_strips.run(module, x, place, *buffers(module, place, x))
        assert encoder_strips.rows_out(module, rows) == made.shape[ROWS]


class TestSizes:
    """How large the two buffers are."""

    @pytest.mark.parametrize("frames", [1, 4])
    @pytest.mark.parametrize("bottom", [False, True])
    @pytest.mark.parametrize("taken", [0, 64, 128])
    @torch.no_grad()
    def test_are_used_to_the_end(self, module, taken, bottom, frames, monkeypatch):
        """Each number lies in a tensor that is taken."""
        ends = {}
        monkeypatch.setattr(Tape, "take", noting(ends))
        x = torch.randn(1, module.encoder.conv_in.in_channels, frames, 8, 64)
        place = StripPlace(taken, 64, frames == 1, bottom)
        lines, cache = buffers(module, place, x)
        encoder_strips.run(module, x, place, lines, cache)
        assert ends == {id(lines): lines.numel(), id(cache): cache.numel()}


class TestSegmentation:
    """Where the weights are."""

    def test_every_weight_of_the_encoder(self, module):
        """Each is in one segment; those of the decoder are in none."""
        found = vae_encoder.segmentation(module)
        names = [name for names in found.segments.values() for name in names]
        wanted = [n for n, _ in module.named_parameters() if n.startswith(("encoder.", "quant_"))]
        assert sorted(wanted) == sorted(names)
        assert sorted(wanted) == sorted(n for names in found.finest.values() for n in names)
