"""Driven by part, each model gives the bits of its own forward."""

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from diffusers.video_processor import VideoProcessor
from transformers import UMT5EncoderModel

from wanflow.models.wan import dit, umt5, vae

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture(params=PRECISIONS)
def precision(request):
    return request.param


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class TestUmt5:
    """Rows, mask, layers and the norm make up the encoder."""

    @pytest.fixture
    def upstream(self, tiny, precision):
        folder = tiny / "text_encoder"
        return UMT5EncoderModel.from_pretrained(folder, dtype=PRECISIONS[precision])

    @pytest.mark.parametrize("tokens", [0, 1, 37, 512])
    def test_forward(self, upstream, loaded, precision, tokens):
        """Real tokens are bit-equal to the pipeline's embeddings, padding is zero."""
        found = loaded("text_encoder", precision)
        module = found.model.module
        ids = torch.arange(512).remainder(1000)[None]
        mask = (torch.arange(512) < tokens).long()[None]
        expected = upstream(ids, mask).last_hidden_state
        hidden, staging = (
            torch.empty(512, 128, dtype=PRECISIONS[precision]),
            torch.empty(4096, dtype=torch.uint8),
        )
        found.checkpoint.read_rows_into(umt5.EMBEDDING, ids[0].tolist(), hidden, staging)
        hidden = hidden[None]
        attention = umt5.attention_mask(module, hidden, mask)
        for index in range(3):
            hidden = umt5.feed(module, index, umt5.attend(module, index, hidden, attention))
        made = umt5.finish(module, hidden, mask, hidden.shape[1])
        assert torch.equal(made[:, :tokens], expected[:, :tokens])
        assert not made[:, tokens:].any()


class TestDit:
    """Embeddings, blocks and the head make up the transformer."""

    @pytest.fixture
    def upstream(self, tiny, precision):
        folder, dtype = tiny / "transformer", PRECISIONS[precision]
        return WanTransformer3DModel.from_pretrained(folder, torch_dtype=dtype).eval()

    @pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 12), (3, 4, 6)])
    def test_forward(self, upstream, loaded, precision, shape):
        """The prediction is bit-equal, for 1, 5 and 9 frames."""
        module = loaded("transformer", precision).model.module
        latents, text = noise(1, 16, *shape), noise(1, 512, 128, seed=1)
        timestep, dtype = torch.tensor([731]), PRECISIONS[precision]
        (expected,) = upstream(latents.to(dtype), timestep, text.to(dtype), return_dict=False)
        rotary = dit.rotary_tables(module, latents, latents.device)
        embedded = dit.embed(module, latents, timestep, text)
        hidden = embedded.hidden
        for block in module.blocks:
            hidden = dit.block(block, hidden, embedded.context, embedded.modulation, rotary)
        made = dit.head(module, hidden, embedded.time, tuple(latents.shape))
        assert torch.equal(made, expected)

    @pytest.mark.parametrize("tokens", [16, 48, 77])
    @pytest.mark.parametrize("image", [0, 257], ids=["text", "image"])
    def test_block_in_parts(self, precision, tokens, image):
        """Self-attention, cross-attention and feed-forward are the block, to the bit."""
        torch.manual_seed(0)
        added = 128 if image else None
        block = WanTransformerBlock(128, 256, 4, cross_attn_norm=True, added_kv_proj_dim=added)
        block = block.to(PRECISIONS[precision])
        block.norm2.float()  # upstream keeps these in fp32
        block.scale_shift_table.data = block.scale_shift_table.data.float()
        hidden = noise(1, tokens, 128).to(PRECISIONS[precision])
        context = noise(1, 512 + image, 128, seed=1).to(PRECISIONS[precision])
        modulation = noise(1, 6, 128, seed=2).to(PRECISIONS[precision])
        angles = noise(1, tokens, 1, 16, seed=3).repeat_interleave(2, -1)
        rotary = (angles.cos(), angles.sin())
        expected = dit.block(block, hidden, context, modulation, rotary)
        made, scales = dit.attend(block, hidden, modulation, rotary)
        made = dit.feed(block, dit.cross(block, made, context), scales)
        assert torch.equal(made, expected)


class TestVae:
    """One latent frame at a time, its cache in a list, is the whole decoder."""

    @pytest.fixture
    def upstream(self, tiny, precision):
        dtype = PRECISIONS[precision]
        return AutoencoderKLWan.from_pretrained(tiny / "vae", torch_dtype=dtype).eval()

    @staticmethod
    def decode(module, latents):
        """Drive the parts as a stage does: what is kept between frames are tensors only."""
        whole = vae.denormalise(module, latents)
        kept = {p: [None] * vae.cache_places(module, p) for p in vae.parts(module)}
        chunks = []
        for frame in range(whole.shape[2]):
            x = whole[:, :, frame : frame + 1]
            for part in vae.parts(module):
                cache = vae.fill_cache(kept[part], frame)
                x = vae.run(module, part, x, cache, first=frame == 0)
                kept[part] = [t if isinstance(t, torch.Tensor) else None for t in cache]
            chunks.append(vae.to_frames(module, x))
        return chunks

    @staticmethod
    def pipeline(module, latents):
        """Decode as `WanPipeline.__call__` does after the last step."""
        shape, latents = (1, module.config.z_dim, 1, 1, 1), latents.to(module.dtype)
        mean = torch.tensor(module.config.latents_mean).view(shape).to(latents)
        inverse = 1.0 / torch.tensor(module.config.latents_std).view(shape).to(latents)
        video = module.decode(latents / inverse + mean, return_dict=False)[0]
        return VideoProcessor(vae_scale_factor=8).postprocess_video(video, output_type="pt")[0]

    @pytest.mark.parametrize(("latent_frames", "frames"), [(1, 1), (2, 5), (3, 9), (5, 17)])
    def test_decode(self, upstream, loaded, precision, latent_frames, frames):
        """Frames are bit-equal to the pipeline's."""
        latents = noise(1, 16, latent_frames, 6, 4)
        made = torch.cat(self.decode(loaded("vae", precision).model.module, latents))
        assert made.shape == (frames, 3, 48, 32)
        assert torch.equal(made, self.pipeline(upstream, latents))

    def test_chunks(self, loaded):
        """The first latent frame gives one frame, every other one four."""
        chunks = self.decode(loaded("vae").model.module, noise(1, 16, 3, 2, 2))
        assert [len(chunk) for chunk in chunks] == [1, 4, 4]

    def test_cache_places(self, loaded):
        """No part asks for more places than it is said to have."""
        module = loaded("vae").model.module
        assert sum(vae.cache_places(module, p) for p in vae.parts(module)) >= 32
