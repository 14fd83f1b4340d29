"""Which kernel attends: diffusers' attention backends, chosen by their names there."""

from __future__ import annotations

import logging
from typing import Any

import torch

from wanflow.errors import InputError

NATIVE = "native"
_LOGGER = "diffusers.models.modeling_utils"  # warns at each choice that the interface may change


def choose_backend(module: Any, name: str, device: torch.device, where: str) -> None:
    """Have all attention of a transformer go to a backend; InputError where it can't be used.

    `native` is chosen too, and not left alone: otherwise a variable of the environment decides.
    """
    if device.type == "cpu" and name != NATIVE:
        raise InputError(
            f"{where}: attention={name} needs a CUDA device, and this run is on the CPU",
            hint=f"leave it at {NATIVE}",
            code="attention-backend",
        )
    quiet = logging.getLogger(_LOGGER)
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        module.set_attention_backend(name)
    except RuntimeError as error:  # a package is missing, or too old
        raise InputError(
            f"{where}: attention={name}: {error}",
            hint=f"install it, or leave it at {NATIVE}",
            code="attention-backend",
        ) from error
    finally:
        quiet.setLevel(level)
