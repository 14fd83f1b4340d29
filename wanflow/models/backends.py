"""Which kernel attends: diffusers' attention backends, chosen by their names there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from wanflow.errors import InputError
from wanflow.models.trees.attention import NATIVE

_LOGGER = "diffusers.models.modeling_utils"  # warns at each choice that the interface may change


@contextmanager
def attending(module: Any, name: str, device: torch.device, where: str) -> Iterator[None]:
    """Have all attention of a transformer go to a backend inside, and to `native` afterwards.

    InputError where it can't be used. Only what computes goes inside: most backends know no fake
    tensors.
    """
    if device.type == "cpu" and name != NATIVE:
        raise InputError(
            f"{where}: attention={name} needs a CUDA device, and this run is on the CPU",
            hint=f"leave it at {NATIVE}",
            code="attention-backend",
        )
    try:
        _choose(module, name)
    except RuntimeError as error:  # a package is missing, or too old
        raise InputError(
            f"{where}: attention={name}: {error}",
            hint=f"install it, or leave it at {NATIVE}",
            code="attention-backend",
        ) from error
    try:
        yield
    finally:
        attend_natively(module)


def attend_natively(module: Any) -> None:
    """Choose `native`, which needs nothing of diffusers."""
    module.set_attention_backend(NATIVE)


def _choose(module: Any, name: str) -> None:
    """Have diffusers check that a backend can be used, and set it.

    Diffusers' setter changes what all other modules of the process use: that is put back.
    """
    if name != NATIVE:
        _check(name)
    module.set_attention_backend(name)


def _check(name: str) -> None:
    from diffusers import ModelMixin
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    default, _ = _AttentionBackendRegistry.get_active_backend()
    quiet = logging.getLogger(_LOGGER)
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        ModelMixin().set_attention_backend(name)  # of a model that has no attention
    finally:
        quiet.setLevel(level)
        _AttentionBackendRegistry.set_active_backend(default)
