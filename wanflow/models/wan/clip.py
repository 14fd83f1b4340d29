"""CLIP's vision tower by its parts, up to the layer whose output Wan's transformer takes.

Drives `transformers.CLIPVisionModel`'s own submodules in the order of its forward (transformers
5.23, `models/clip/modeling_clip.py`). The pipelines take `hidden_states[-2]`, so that the last
layer and the norm after it are never run.
"""

from __future__ import annotations

from typing import Any

import torch


def walk(module: Any) -> torch.Tensor:
    """Run all of it once on zeros, to see what is used when."""
    hidden = embed(module, torch.zeros(1, 3, module.config.image_size, module.config.image_size))
    for index in range(layers(module)):
        hidden = layer(module, index, hidden)
    return hidden


def layers(module: Any) -> int:
    """How many layers are run."""
    return len(module.encoder.layers) - 1


def embed(module: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Embed the patches of pictures `[B, 3, S, S]`, their class and their places.

    The module's own table of places is on the meta device; it is 0, 1, 2 and so on.
    """
    embeddings = module.embeddings
    patches = embeddings.patch_embedding(pixels.to(embeddings.patch_embedding.weight.dtype))
    patches = patches.flatten(2).transpose(1, 2)
    classes = embeddings.class_embedding.expand(pixels.shape[0], 1, -1)
    hidden = torch.cat([classes, patches], dim=1)
    return torch.as_tensor(
        module.pre_layrnorm(hidden + embeddings.position_embedding.weight.unsqueeze(0))
    )


def layer(module: Any, index: int, hidden: torch.Tensor) -> torch.Tensor:
    """Run one layer."""
    return torch.as_tensor(module.encoder.layers[index](hidden, None))
