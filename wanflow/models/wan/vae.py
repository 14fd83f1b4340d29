"""Wan's VAE decoder by its parts, one latent frame at a time, its feature cache handed in and out.

Drives the submodules of `trees/vae.py` in the order of `_decode` and
`WanDecoder3d.forward` (diffusers 0.42, `models/autoencoders/autoencoder_kl_wan.py`). A part's cache
is a list with a place for each causal convolution; a place holds None (first frame), the marker
"Rep" (an upsampler that has seen one frame) or the last two frames of the convolution's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from wanflow.models.trees.vae import CACHE_T, REPEAT, Cache, unpatchify
from wanflow.scheduler.last_look import last_look


def walk(module: Any) -> torch.Tensor:
    """Decode two latent frames of zeros, to see what is used when; the encoder is not."""
    x = denormalise(module, torch.zeros(1, module.config.z_dim, 1, 1, 1))
    caches: dict[str, Cache] = {part: [None] * cache_places(module, part) for part in parts(module)}
    hidden = x
    for first in (True, False):  # the first frame uses no temporal upsampler
        hidden = x
        for part, cache in caches.items():
            hidden = run(module, part, hidden, cache, first=first)
    return hidden


def parts(module: Any) -> tuple[str, ...]:
    """The decoder's parts in execution order; each has a cache of its own."""
    ups = (f"up.{i}" for i in range(len(module.decoder.up_blocks)))
    return ("in", "mid", *ups, "head")


def paths(part: str) -> tuple[str, ...]:
    """Where a part's weights are in the module."""
    named = {"in": ("conv_in",), "mid": ("mid_block",), "head": ("norm_out", "conv_out")}
    places = named.get(part, (f"up_blocks.{part.rpartition('.')[2]}",))
    return tuple(f"decoder.{path}" for path in places)


def cache_places(module: Any, part: str) -> int:
    """How many places a part's cache has at most."""
    if part in ("in", "head"):
        return 1
    return convolutions(_part(module, part))


_CONVOLUTIONS: WeakKeyDictionary[torch.nn.Module, int] = WeakKeyDictionary()


def convolutions(part: torch.nn.Module) -> int:
    """How many convolutions over time a part has; asked for each frame and strip, counted once."""
    if part not in _CONVOLUTIONS:
        _CONVOLUTIONS[part] = sum(isinstance(m, torch.nn.Conv3d) for m in part.modules())
    return _CONVOLUTIONS[part]


def _part(module: Any, part: str) -> Any:
    name, _, index = part.partition(".")
    return module.decoder.mid_block if name == "mid" else module.decoder.up_blocks[int(index)]


def denormalise(module: Any, latents: torch.Tensor) -> torch.Tensor:
    """Undo the latents' normalisation and apply `post_quant_conv`: `[1, z, F, h, w]`."""
    config, dtype = module.config, module.post_quant_conv.weight.dtype
    latents = latents.to(dtype)
    shape = (1, config.z_dim, 1, 1, 1)
    mean = torch.tensor(config.latents_mean).view(shape).to(latents.device, dtype)
    inverse = 1.0 / torch.tensor(config.latents_std).view(shape).to(latents.device, dtype)
    return torch.as_tensor(module.post_quant_conv(latents / inverse + mean))


def run(module: Any, part: str, x: torch.Tensor, cache: Cache, *, first: bool) -> torch.Tensor:
    """Run one part on one latent frame's features; *cache* is updated in place."""
    decoder = module.decoder
    if part == "in":
        return cached(decoder.conv_in, x, cache)
    if part == "head":
        return cached(decoder.conv_out, decoder.nonlinearity(decoder.norm_out(x)), cache)
    if part == "mid":
        return torch.as_tensor(decoder.mid_block(x, feat_cache=cache, feat_idx=[0]))
    up = _part(module, part)
    return torch.as_tensor(up(x, feat_cache=cache, feat_idx=[0], first_chunk=first))


def cached(conv: Any, x: torch.Tensor, cache: Cache) -> torch.Tensor:
    """A convolution at an end, with its place in the cache, as its forward has them."""
    frames = x[:, :, -CACHE_T:].clone()
    if frames.shape[2] < CACHE_T and cache[0] is not None:
        frames = torch.cat([cache[0][:, :, -1:], frames], dim=2)
    out = conv(x, cache[0])
    cache[0] = frames
    return torch.as_tensor(out)


def to_frames(module: Any, decoded: torch.Tensor) -> torch.Tensor:
    """Clamp and scale to [0, 1], frames first: `[n, 3, H, W]`, as `VideoProcessor` does."""
    if module.config.patch_size is not None:
        decoded = unpatchify(decoded, patch_size=module.config.patch_size)
    clamped = torch.clamp(last_look(decoded), min=-1.0, max=1.0)
    return (clamped[0].permute(1, 0, 2, 3) * 0.5 + 0.5).clamp(0, 1)


def fill_cache(places: Sequence[torch.Tensor | None], frame: int) -> Cache:
    """A part's cache before *frame*: a place that was left empty by frame 0 was a "Rep"."""
    return [REPEAT if t is None and frame == 1 else t for t in places]
