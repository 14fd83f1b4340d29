"""Wan's VAE encoder by its parts, a chunk of frames at a time, its feature cache handed in and out.

Drives the submodules of `trees/vae.py` in the order of `_encode` and
`WanEncoder3d.forward` (diffusers 0.42, `models/autoencoders/autoencoder_kl_wan.py`): the clip's
first frame by itself, then four at a time, a latent frame each. A part's cache is a list with a
place for each causal convolution, None before the first chunk.
"""

from __future__ import annotations

from typing import Any

import torch

from wanflow.models.segments.discover import Segmentation, discover
from wanflow.models.trees.vae import Cache, patchify
from wanflow.models.wan.vae import cached, convolutions

PREFIX = "encoder"
STRIPS = f"{PREFIX}.strips"  # the segment of all that may run in strips


def walk(module: Any) -> torch.Tensor:
    """Encode two chunks of zeros, to see what is used when; the decoder is not."""
    side, config = spatial(module), module.config
    caches: dict[str, Cache] = {part: [None] * cache_places(module, part) for part in parts(module)}
    outputs = []
    for count in (1, config.scale_factor_temporal):  # the first chunk uses no temporal convolution
        x = torch.zeros(1, config.in_channels // (config.patch_size or 1) ** 2, count, side, side)
        x = opened(module, x)
        for part, cache in caches.items():
            x = run(module, part, x, cache)
        outputs.append(x)
    return to_latents(module, torch.cat(outputs, 2))


def segmentation(module: Any) -> Segmentation:
    """Find the encoder's segments; what may run in strips is one, and its elements are its parts.

    Their names begin with `encoder`, so that they stand beside the decoder's.
    """
    units = {f"{PREFIX}.{n}": names for n, names in discover(module, walk).segments.items()}
    strips = {segment: names for segment, names in units.items() if _is_in_strips(module, names[0])}
    together = {STRIPS: tuple(name for names in strips.values() for name in names)}
    rest = {segment: names for segment, names in units.items() if segment not in strips}
    return Segmentation({**together, **rest}, {STRIPS: strips})


def _is_in_strips(module: Any, parameter: str) -> bool:
    return any(
        parameter.startswith(f"{path}.") for part in strip_parts(module) for path in paths(part)
    )


def spatial(module: Any) -> int:
    """How many pixels a latent is wide."""
    return int(module.config.scale_factor_spatial)


def parts(module: Any) -> tuple[str, ...]:
    """The encoder's parts in execution order; each has a cache of its own."""
    encoder = module.encoder
    downs = (f"down.{i}" for i in range(len(encoder.down_blocks)))
    mids = (f"mid.{i}" for i in range(len(encoder.mid_block.resnets) * 2 - 1))
    return ("in", *downs, *mids, "head")


def strip_parts(module: Any) -> tuple[str, ...]:
    """The parts above the latents' size: up to the last one that makes rows fewer."""
    downs = module.encoder.down_blocks
    last = max((i for i, block in enumerate(downs) if resampler(block) is not None), default=-1)
    return ("in", *(f"down.{i}" for i in range(last + 1)))


def whole_parts(module: Any) -> tuple[str, ...]:
    """The other parts, which see a frame at the latents' size."""
    return parts(module)[len(strip_parts(module)) :]


def resampler(block: Any) -> Any:
    """What makes a block's rows fewer: in Wan 2.1 an element of the list, in Wan 2.2 a child."""
    if hasattr(block, "resample"):
        return block
    return getattr(block, "downsampler", None)


def paths(part: str) -> tuple[str, ...]:
    """Where a part's weights are in the module."""
    name, _, index = part.partition(".")
    if name == "mid":
        return (f"encoder.mid_block.{_mid(int(index))}",)
    if name == "down":
        return (f"encoder.down_blocks.{index}",)
    return ("encoder.conv_in",) if name == "in" else ("encoder.norm_out", "encoder.conv_out")


def _mid(index: int) -> str:
    """Residual blocks with an attention between two, as `WanMidBlock.forward` has them."""
    return f"{'attentions' if index % 2 else 'resnets'}.{index // 2}"


def cache_places(module: Any, part: str) -> int:
    """How many places a part's cache has at most."""
    if part in ("in", "head"):
        return 1
    return convolutions(_part(module, part))


def _part(module: Any, part: str) -> Any:
    (path,) = paths(part)
    return module.get_submodule(path)


def opened(module: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Give pixels `[1, 3, n, H, W]` in [-1, 1] as the encoder takes them."""
    pixels = pixels.to(module.encoder.conv_in.weight.dtype)
    patch = module.config.patch_size
    return pixels if patch is None else torch.as_tensor(patchify(pixels, patch_size=patch))


def run(module: Any, part: str, x: torch.Tensor, cache: Cache) -> torch.Tensor:
    """Run one part on one chunk's features; *cache* is updated in place."""
    encoder = module.encoder
    if part == "in":
        return cached(encoder.conv_in, x, cache)
    if part == "head":
        return cached(encoder.conv_out, encoder.nonlinearity(encoder.norm_out(x)), cache)
    block = _part(module, part)
    if part.startswith("mid.") and int(part.partition(".")[2]) % 2:  # attention, frame by frame
        return torch.as_tensor(block(x))
    return torch.as_tensor(block(x, feat_cache=cache, feat_idx=[0]))


def to_latents(module: Any, moments: torch.Tensor) -> torch.Tensor:
    """Give the mode of the distribution, normalised: fp32 `[1, z, F, h, w]`.

    The order of operations is `WanImageToVideoPipeline.prepare_latents`'.
    """
    config, shape = module.config, (1, module.config.z_dim, 1, 1, 1)
    mode = module.quant_conv(moments).chunk(2, dim=1)[0].to(torch.float32)
    mean = torch.tensor(config.latents_mean).view(shape).to(mode)
    inverse = 1.0 / torch.tensor(config.latents_std).view(shape).to(mode)
    return torch.as_tensor((mode - mean) * inverse)
