"""Our trees of modules are upstream's: the same names in the same order, and the same bits."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from wanflow.graph.configs import KNOWN, known_config
from wanflow.models.segments.build import build
from wanflow.models.segments.upstream import build_upstream
from wanflow.models.wan import dit, umt5, vae, vae_encoder

PARTS = ("text_encoder", "transformer", "vae")
DTYPES = (torch.float32, torch.bfloat16)


@pytest.mark.parametrize(("config", "part"), [*product(KNOWN, PARTS)])
def test_parameters(config, part):
    """Names and shapes of every known model, in the order in which files and segments have them."""
    fields = known_config(config, part)
    ours, theirs = (
        [(name, parameter.shape) for name, parameter in module.named_parameters()]
        for module in (build(part, fields), build_upstream(part, fields))
    )

    assert ours == theirs


@pytest.mark.parametrize(("config", "part"), [*product(KNOWN, PARTS)])
def test_filled_in(config, part):
    """What a configuration leaves out is filled in as upstream's constructors do."""
    fields = known_config(config, part)
    theirs = build_upstream(part, fields).config

    for name, value in vars(build(part, fields).config).items():
        expected = getattr(theirs, name)
        assert list(value) == list(expected) if isinstance(value, list | tuple) else (
            value == expected
        ), name  # fmt: skip


def both(part, config, dtype):
    """Ours and upstream's with the same random weights."""
    fields = known_config(config, part)
    theirs = build_upstream(part, fields).to_empty(device="cpu").to(dtype)
    ours = build(part, fields).to_empty(device="cpu").to(dtype)
    torch.manual_seed(0)
    weights = {}
    for name, parameter in theirs.named_parameters():
        weights[name] = torch.randn(parameter.shape, dtype=dtype) * 0.05
    for module in (ours, theirs):
        for name, parameter in module.named_parameters():
            parameter.data.copy_(weights[name])
    return ours, theirs


@pytest.mark.parametrize("dtype", DTYPES)
class TestBits:
    """What upstream's forward makes."""

    @pytest.fixture(autouse=True)
    def no_gradients(self):
        with torch.no_grad():
            yield

    def test_text(self, dtype):
        """All layers, of a prompt with padding behind it."""
        ours, theirs = both("text_encoder", "wan-tiny", dtype)
        theirs.set_input_embeddings(theirs.shared)
        ids = torch.randint(2, 100, (1, 24))
        mask = (torch.arange(24) < 17)[None].long()
        hidden = ours.shared(ids)
        attention = umt5.attention_mask(ours, hidden, mask)
        for index in range(len(ours.encoder.block)):
            hidden = umt5.feed(ours, index, umt5.attend(ours, index, hidden, attention))
        made = umt5.finish(ours, hidden, mask, 24)

        expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.equal(made[:, :17], expected[:, :17])

    @pytest.mark.parametrize("config", ["wan-tiny", "wan-tiny-i2v", "wan-tiny-ti2v"])
    def test_transformer(self, dtype, config):
        """Embeddings, rotary tables, blocks and head."""
        ours, theirs = both("transformer", config, dtype)
        fresh = type(theirs.rope)
        settings = theirs.config
        theirs.rope = fresh(
            settings.attention_head_dim, settings.patch_size, settings.rope_max_seq_len
        )
        latents = torch.randn(1, settings.in_channels, 2, 4, 6, dtype=dtype)
        text = torch.randn(1, dit.TEXT_TOKENS, settings.text_dim, dtype=dtype)
        time = torch.tensor([900])
        image = None
        if settings.image_dim is not None:
            image = torch.randn(1, 5, settings.image_dim, dtype=dtype)
        rotary = dit.rotary_tables(ours, latents, latents.device)
        embedded = dit.embed(ours, latents, time, text, image)
        hidden = embedded.hidden
        for block in ours.blocks:
            hidden = dit.block(block, hidden, embedded.context, embedded.modulation, rotary)
        made = dit.head(ours, hidden, embedded.time, tuple(latents.shape))

        assert torch.equal(made, theirs(latents, time, text, image, return_dict=False)[0])

    @pytest.mark.parametrize("config", ["wan-tiny", "wan-tiny-ti2v"])
    def test_vae(self, dtype, config):
        """Decoder and encoder, three latent frames, each from its cache."""
        ours, theirs = both("vae", config, dtype)
        latents = torch.randn(1, ours.config.z_dim, 3, 4, 4, dtype=dtype)
        side = 4 * ours.config.scale_factor_spatial
        clip = (torch.rand(1, 3, 9, side, side) * 2 - 1).to(dtype)

        assert torch.equal(self.decoded(ours, latents), self.decoded(theirs, latents))
        assert torch.equal(self.encoded(ours, clip), self.encoded(theirs, clip))

    def decoded(self, module, latents):
        caches = {part: [None] * vae.cache_places(module, part) for part in vae.parts(module)}
        frames = []
        x = vae.denormalise(module, latents)
        for number in range(x.shape[2]):
            hidden = x[:, :, number : number + 1]
            for part, cache in caches.items():
                hidden = vae.run(module, part, hidden, cache, first=number == 0)
            frames.append(vae.to_frames(module, hidden))
        return torch.cat(frames)

    def encoded(self, module, clip):
        parts = vae_encoder.parts(module)
        caches = {part: [None] * vae_encoder.cache_places(module, part) for part in parts}
        moments = []
        for chunk in (clip[:, :, :1], clip[:, :, 1:5], clip[:, :, 5:]):
            hidden = vae_encoder.opened(module, chunk)
            for part, cache in caches.items():
                hidden = vae_encoder.run(module, part, hidden, cache)
            moments.append(hidden)
        return vae_encoder.to_latents(module, torch.cat(moments, 2))
