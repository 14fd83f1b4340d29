"""The latents that the models of a graph make and read: their channels, and their shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wanflow.graph import BoundGraph, BoundStage, PortRef, Size, VideoRules
from wanflow.models.bound import LocatedModel
from wanflow.stages import LatentSpace

# What shapes latents, as diffusers' constructors fill it in.
_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "transformer": {"patch_size": [1, 2, 2], "out_channels": 16},
    "vae": {"z_dim": 16, "scale_factor_spatial": 8, "scale_factor_temporal": 4},
}


def shapes_of(models: Mapping[str, LocatedModel]) -> dict[str, dict[str, Any]]:
    """The fields of transformer and VAE that shape latents, with those that upstream fills in."""
    shapes: dict[str, dict[str, Any]] = {}
    for located in models.values():
        part, shape = located.spec.part, _SHAPES.get(located.spec.part)
        if shape is not None:
            shapes[part] = {name: located.config.get(name, value) for name, value in shape.items()}
    return shapes


def rules_of(models: Mapping[str, LocatedModel]) -> VideoRules | None:
    """Which sizes and frames these models take; None where the graph has not both of them."""
    by_part = shapes_of(models)
    if "transformer" not in by_part or "vae" not in by_part:
        return None
    return VideoRules.of(by_part["transformer"], by_part["vae"])


def latent_space(models: Mapping[str, LocatedModel]) -> LatentSpace:
    """Channels of what the transformer makes, factors of the VAE, Wan 2.1's without one."""
    shapes = shapes_of(models)
    dit, vae = shapes.get("transformer"), shapes.get("vae")
    channels = dit["out_channels"] if dit is not None else (vae or _SHAPES["vae"])["z_dim"]
    return LatentSpace(
        channels=channels,
        spatial=(vae or _SHAPES["vae"])["scale_factor_spatial"],
        temporal=(vae or _SHAPES["vae"])["scale_factor_temporal"],
    )


def latent_shape(graph: BoundGraph, stage: BoundStage, space: LatentSpace) -> tuple[int, ...]:
    """The shape of the latents a stage works on, from the noise stage above it."""
    above = stage
    while (frames := above.inputs.get("frames")) is not None and isinstance(frames, PortRef):
        above = graph.stage(frames.stage)
    noise = graph.noise_of(above)
    if noise is None:
        return (1, space.channels, 1, 1, 1)
    size, count = noise.inputs["size"], noise.inputs["frames"]
    if not isinstance(size, Size) or not isinstance(count, int):
        msg = f"stage {noise.name} has size {size!r}, frames {count!r}"
        raise TypeError(msg)
    return space.shape(size.width, size.height, count)
