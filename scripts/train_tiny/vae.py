"""Train the video autoencoder: first on single frames, then on clips, then measure its latents."""

from __future__ import annotations

from pathlib import Path
from types import MethodType
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch.nn import functional

from scripts.train_tiny.drawing import draw
from scripts.train_tiny.loop import Loop, compiled, plateau, rate, set_rate
from scripts.train_tiny.muon import KernelMuon
from scripts.train_tiny.world import BACKGROUNDS, SIDE, draw_scene

Batch = tuple[torch.Tensor, torch.Tensor]
Passed = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # pixels, latents' mean and log variance

_KL = 2e-4
_OFF = 0.15  # noise on the latents at most, in deviations, when the decoder is trained alone
_DECODER_RATE = 1.5e-3
_SHAPE_WEIGHT = 4.0  # pixels of shapes are few: each counts so much more than the background's


def new_vae(fields: dict[str, Any]) -> Any:
    """Build the module so that it starts as an autoencoder of single frames.

    Only the present frame's taps of the causal convolutions are random, the past's are zero; the
    temporal resampling starts as keeping the last frame and repeating it.
    """
    vae = AutoencoderKLWan(**fields)
    for name, module in vae.named_modules():
        if not isinstance(module, torch.nn.Conv3d):
            continue
        with torch.no_grad():
            if name.endswith("time_conv"):
                module.weight.zero_()
                width = module.weight.shape[1]
                copies = module.weight.shape[0] // width
                module.weight[:, :, -1, 0, 0] = torch.eye(width).repeat(copies, 1)
                if module.bias is not None:
                    module.bias.zero_()
            elif module.weight.shape[2] > 1:
                module.weight[:, :, :-1] = 0
                module.weight.mul_(1.7)
    with torch.no_grad():
        vae.quant_conv.bias[vae.config.z_dim :] = -5  # little noise at first
    return vae


def quicken(vae: Any) -> None:
    """Let causal convolutions of a first frame skip the past, which is zeros: the same numbers."""
    for module in vae.modules():
        if isinstance(module, WanCausalConv3d):
            module.forward = MethodType(_causal, module)


def _causal(module: Any, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
    if x.shape[2] == 1 and cache_x is None and module.stride == (1, 1, 1):
        pad = (module._padding[2], module._padding[0])  # noqa: SLF001 - where upstream keeps it
        out = functional.conv2d(x[:, :, 0], module.weight[:, :, -1], module.bias, padding=pad)
        return out.unsqueeze(2)
    return cast("torch.Tensor", WanCausalConv3d.forward(module, x, cache_x))


def decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Decode as `AutoencoderKLWan.decode` does, but for its clamp, which would stop gradients."""
    x, chunks = vae.post_quant_conv(latents), []
    cache = [None] * vae._cached_conv_counts["decoder"]  # noqa: SLF001 - as upstream counts them
    for index in range(x.shape[2]):
        frame = x[:, :, index : index + 1]
        out = vae.decoder(frame, feat_cache=cache, feat_idx=[0], first_chunk=index == 0)
        chunks.append(out)
    return torch.cat(chunks, 2)


def batch(seed: int, step: int, *, count: int, frames: int, crop: int) -> Batch:
    """Draw `[count, 3, frames, crop, crop]` in [-1, 1] for a step, and where its shapes are."""
    random = np.random.default_rng((seed, step))
    clips, masks = [], []
    for _ in range(count):
        scene = draw_scene(random, held=False, pairs=0.25)
        clip, plain = draw(random, scene), BACKGROUNDS[scene.background]
        first = int(random.integers(0, clip.shape[0] - frames + 1))
        y, x = (int(v) for v in random.integers(0, SIDE - crop + 1, 2))
        clip = clip[first : first + frames, y : y + crop, x : x + crop]
        clips.append(clip)
        masks.append((clip != np.array(plain, np.uint8)).any(-1))
    pixels = torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return pixels, torch.from_numpy(np.stack(masks)).unsqueeze(1).float()


def through_clip(vae: Any, pixels: torch.Tensor) -> Passed:
    """Encode, draw latents, decode: the pixels, and the latents' mean and log variance."""
    latents = vae.encode(pixels).latent_dist
    return decode(vae, latents.sample()), latents.mean, latents.logvar


def through_frame(vae: Any, pixels: torch.Tensor) -> Passed:
    """Do the same for single frames, which need no cache: compiled, a step takes half the time."""
    mean, spread = vae.quant_conv(vae.encoder(pixels)).chunk(2, dim=1)
    drawn = mean + torch.randn_like(mean) * torch.exp(0.5 * spread)
    return vae.decoder(vae.post_quant_conv(drawn)), mean, spread


def loss_of(made: Passed, pixels: torch.Tensor, shapes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Reconstruction (absolute and squared error, shapes count more) and a little KL."""
    out, mean, spread = (values.float() for values in made)
    error = out - pixels
    weight = 1 + _SHAPE_WEIGHT * shapes
    kl = 0.5 * (mean.square() + spread.exp() - 1 - spread).mean()
    pixel = (error.abs() * weight).mean()
    return {"total": pixel + (error.square() * weight).mean() + _KL * kl, "pixel": pixel, "kl": kl}


PHASES = (  # name, steps, clips a step, frames, crop, top rate
    ("vae1", 1200, 16, 1, 64, 8e-3),
    ("vae2", 500, 4, 9, 32, 3e-3),
    ("vae3", 250, 1, 17, 64, 1.5e-3),
)


def train(vae: Any, folder: Path, seed: int, quiet: Path | None) -> None:
    """Run the phases in order; each starts from the one before, and from its checkpoint if any."""
    quicken(vae)
    quick = compiled(through_frame)
    for number, (name, steps, count, frames, crop, top) in enumerate(PHASES):
        optimizer = KernelMuon(vae.parameters(), top)
        loop = Loop(folder, name, steps, {"vae": vae, "optimizer": optimizer}, quiet)
        for step in loop:
            set_rate(optimizer, rate(step, steps, top))
            pixels, shapes = batch(seed + number, step, count=count, frames=frames, crop=crop)
            with torch.autocast("cpu", torch.bfloat16):
                made = (quick if frames == 1 else through_clip)(vae, pixels)
            losses = loss_of(made, pixels, shapes)
            vae.zero_grad()
            losses["total"].backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            loop.note(**{key: float(value.detach()) for key, value in losses.items()})


def train_decoder(vae: Any, folder: Path, seed: int, quiet: Path | None, steps: int) -> None:
    """Go on with the decoder alone: the latents stay as the transformer has learned them."""
    learned = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer = KernelMuon(learned, _DECODER_RATE)
    loop = Loop(folder, "decoder", steps, {"vae": vae, "optimizer": optimizer}, quiet)
    for step in loop:
        set_rate(optimizer, plateau(step, steps, _DECODER_RATE, warm=50))
        pixels, shapes = batch(seed, step, count=2, frames=9, crop=SIDE)
        generator = torch.Generator().manual_seed(seed + step)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = vae.encode(pixels).latent_dist.mode().float()
                # What the transformer makes is a little off: the decoder sees some of that.
                off = _OFF * torch.rand(len(latents), 1, 1, 1, 1, generator=generator)
                noise = torch.randn(latents.shape, generator=generator)
                latents += off * noise * latents.std()
            out = decode(vae, latents)
        error = out.float() - pixels
        weight = 1 + _SHAPE_WEIGHT * shapes
        loss = (error.abs() * weight).mean() + (error.square() * weight).mean()
        vae.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        loop.note(total=float(loss.detach()), pixel=float(error.detach().abs().mean()))
