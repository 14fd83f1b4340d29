"""The shape of the model that is trained: the bundled configuration."""

from __future__ import annotations

from typing import Any

from wanflow.graph.configs import known_config
from wanflow.models.segments.build import allowed

NAME = "wan-tiny"


def shape(part: str) -> dict[str, Any]:
    """Give the fields of a part that its class takes."""
    return dict(allowed(part, known_config(NAME, part), part))


TEXT = {**shape("text_encoder"), "dropout_rate": 0.1}
TRANSFORMER = shape("transformer")
VAE = shape("vae")  # what is measured, the latents' mean and deviation, comes after training
