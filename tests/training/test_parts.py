"""What training does for speed gives the numbers of upstream's classes."""

import copy

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from scripts.train_tiny import dit, shapes, vae
from scripts.train_tiny.muon import KernelMuon, StackedMuon

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

    @torch.no_grad()
    def test_it_starts_as_its_input(self):
        """Before training, what comes out is near what goes in, patch by patch."""
        torch.manual_seed(0)
        made = dit.Model()
        ids, mask = dit.tokenize(dit.make_tokenizer(), PROMPTS[:1])
        noise = torch.randn(1, 16, 3, 8, 8)
        bias = dit.padding_bias(mask, torch.full((1,), 512.0))
        out = made(noise, torch.tensor([900.0]), made.encode(ids, mask), bias)
        assert torch.nn.functional.cosine_similarity(out.flatten(), noise.flatten(), dim=0) > 0.9

    @torch.no_grad()
    def test_a_given_frame_is_not_learned_from(self, model):
        """The last clips' first frames are theirs, at a time of zero, and count for nothing."""
        asked = []

        def forward(latents, times, text, bias):
            asked.append((latents, times))
            return torch.zeros_like(latents)

        latents, noise = torch.randn(2, 4, 16, 5, 8, 8)
        ids, mask = dit.tokenize(dit.make_tokenizer(), ["a red circle"] * 4)
        sigma = torch.tensor([0.2, 0.4, 0.6, 0.8])
        drawn = dit.Sample(
            latents, noise, sigma, ids, mask, dit.padding_bias(mask, torch.full((4,), 512.0)), 1
        )
        error = dit.velocity_error(model, drawn, forward)
        (plain, times), (given, each) = asked
        assert plain.shape[0] == 3
        assert torch.equal(times, sigma[:3] * 1000)
        assert torch.equal(given[:, :, 0], latents[3:, :, 0])
        assert not torch.equal(given[:, :, 1], latents[3:, :, 1])
        assert each.shape == (1, 80)
        assert (each[0, :16] == 0).all()
        assert (each[0, 16:] == 800).all()
        wanted = (noise - latents).square()
        parts = [wanted[i].mean() for i in range(3)] + [wanted[3, :, 1:].mean()]
        torch.testing.assert_close(error, torch.stack(parts).mean())

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

    @torch.no_grad()
    def test_single_frames_need_no_cache(self):
        """What is compiled for single frames decodes as upstream does."""
        torch.manual_seed(0)
        made = vae.new_vae(shapes.VAE)
        made.quant_conv.bias[16:] = -30  # no noise
        pixels, _ = vae.batch(1, 1, count=2, frames=1, crop=32)
        out, mean, _ = vae.through_frame(made, pixels)
        latents = made.encode(pixels).latent_dist.mode()
        torch.testing.assert_close(mean, latents, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(vae.decode(made, latents), out, rtol=1e-3, atol=1e-3)

    def test_stacked_matrices_go_where_torchs_muon_takes_them(self):
        """Two steps of matrices of three shapes; torch iterates in bf16, so nearly."""
        torch.manual_seed(0)
        shapes_of = [(8, 8), (8, 8), (16, 8), (8, 24)]
        ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes_of]
        theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
        before = [p.detach().clone() for p in ours]
        first = StackedMuon(ours, lr=1e-2)
        second = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        for _ in range(2):
            for one, other in zip(ours, theirs, strict=True):
                one.grad = torch.randn_like(one)
                other.grad = one.grad.clone()
            first.step()
            second.step()
        for one, other, old in zip(ours, theirs, before, strict=True):
            torch.testing.assert_close(one - old, other - old, rtol=0.05, atol=5e-4)

    def test_kernels_are_moved_through_their_views(self):
        """Muon's matrices are the kernels themselves; both optimizers' states come back."""
        torch.manual_seed(0)
        made = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.Conv2d(8, 4, 1))
        first = KernelMuon(made.parameters(), 1e-2)
        before = [p.detach().clone() for p in made.parameters()]
        made(torch.randn(1, 4, 8, 8)).square().mean().backward()
        first.step()
        assert all(not torch.equal(a, b) for a, b in zip(before, made.parameters(), strict=True))
        again = KernelMuon(made.parameters(), 1e-2)
        again.load_state_dict(copy.deepcopy(first.state_dict()))
        for optimizer in (first, again):
            torch.manual_seed(1)
            kept = {name: p.detach().clone() for name, p in made.named_parameters()}
            optimizer.step()
            after = [p.detach().clone() for p in made.parameters()]
            made.load_state_dict(kept)
            if optimizer is first:
                expected = after
        assert all(torch.equal(a, b) for a, b in zip(expected, after, strict=True))
