"""What training does for speed gives the numbers of upstream's classes."""

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from scripts.train_tiny import dit, shapes, vae

PROMPTS = ["a red circle moves left on a blue background", "", "红色圆形变大"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return dit.Model()


class TestTransformer:
    @torch.no_grad()
    def test_padding_weighed_in_is_padding_computed(self, model):
        """One padding token with its weight is upstream's 512 tokens of text."""
        ids, mask = dit.tokenize(dit.make_tokenizer(), PROMPTS)
        text = model.encode(ids, mask)
        latents, times = torch.randn(3, 16, 2, 4, 4), torch.tensor([100.0, 500.0, 900.0])
        quick = model(latents, times, text, dit.padding_bias(mask, torch.full((3,), 512.0)))
        for block in model.transformer.blocks:
            block.attn1.set_processor(WanAttnProcessor())
            block.attn2.set_processor(WanAttnProcessor())
        padded = torch.cat([text, torch.zeros(3, 512 - text.shape[1], text.shape[2])], 1)
        plain = model.transformer(latents, times, padded, return_dict=False)[0]
        torch.testing.assert_close(plain, quick, rtol=1e-4, atol=1e-4)

    def test_the_average_is_nearer_the_last_weights_than_the_first(self, model):
        """It follows, and can be given back."""
        average = dit.Average(torch.nn.Linear(2, 2))
        later = torch.nn.Linear(2, 2)
        for step in range(40):
            average.update(later, step)
        other = torch.nn.Linear(2, 2)
        average.copy_to(other)
        torch.testing.assert_close(later.weight, other.weight, rtol=0, atol=0.05)


class TestAutoencoder:
    @torch.no_grad()
    def test_the_quick_convolutions_are_upstreams(self):
        """With taps for the past that are not zero, over several chunks."""
        torch.manual_seed(0)
        made = vae.new_vae(shapes.VAE)
        for parameter in made.parameters():
            if parameter.ndim == 5:
                torch.nn.init.normal_(parameter, std=0.05)
        pixels, _ = vae.batch(1, 1, count=1, frames=9, crop=16)
        latents = made.encode(pixels).latent_dist.mode()
        plain = made.decode(latents).sample
        vae.quicken(made)
        again = made.encode(pixels).latent_dist.mode()
        torch.testing.assert_close(latents, again, rtol=1e-4, atol=1e-4)
        quick = vae.decode(made, latents).clamp(-1, 1)
        torch.testing.assert_close(plain, quick, rtol=1e-4, atol=1e-4)

    @torch.no_grad()
    def test_it_starts_by_repeating_a_frame(self):
        """Before training, four frames that are the same decode to four that are the same."""
        torch.manual_seed(0)
        made = vae.new_vae(shapes.VAE)
        still = vae.batch(1, 1, count=1, frames=1, crop=16)[0].expand(-1, -1, 5, -1, -1)
        out = vae.decode(made, made.encode(still).latent_dist.mode())
        torch.testing.assert_close(out[:, :, 1:], out[:, :, 1:2].expand(-1, -1, 4, -1, -1))
