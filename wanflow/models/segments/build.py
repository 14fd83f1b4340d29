"""Build the modules of models on the meta device from an allow-list of fields.

Nothing in a weights folder chooses a class or runs code: a `config.json` is read as plain JSON, and
only known fields, within the bounds that a graph file's `config` has too, reach a constructor.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wanflow.errors import WeightsError
from wanflow.graph.config_fields import FIELDS, inconsistencies
from wanflow.graph.configs import known_config

if TYPE_CHECKING:
    import torch

_DEFAULTS = "wan2.1-t2v-1.3b"  # upstream's constructors fill in Wan 2.1's
_PICTURES = "wan2.1-i2v-14b"  # what a model that starts from text has no part for
_VACE_FIELDS = ("vace_layers", "vace_in_channels")
_REQUIRED = {
    "image_encoder": ("hidden_size", "num_hidden_layers", "num_attention_heads"),
    "text_encoder": ("vocab_size", "d_model", "num_layers", "num_heads"),
    "transformer": ("num_attention_heads", "attention_head_dim", "num_layers", "text_dim"),
    "vae": ("base_dim", "z_dim"),
}


def read_config(folder: Path) -> dict[str, object]:
    """Read a weights folder's `config.json`; WeightsError when it is missing or no JSON object."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}", code="bad-config") from None
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: is not a JSON object", code="bad-config")
    return config


def allowed(part: str, config: Mapping[str, object], where: str) -> dict[str, Any]:
    """Keep the known fields of *config*; WeightsError names a missing or wrong one."""
    fields = FIELDS[part]
    values = {name: value for name, value in config.items() if name in fields}
    for name, value in values.items():
        if refusal := fields[name].refusal(value):
            raise WeightsError(
                f"{where}: {name} {refusal}, is {reprlib.repr(value)}", code="bad-config"
            )
    missing = [name for name in _REQUIRED[part] if name not in values]
    if missing:
        raise WeightsError(f"{where}: {part} config lacks {', '.join(missing)}", code="bad-config")
    defaults = known_config(_PICTURES if part == "image_encoder" else _DEFAULTS, part)
    for fault in inconsistencies(part, {**defaults, **values}):
        raise WeightsError(f"{where}: {fault}", code="bad-config")
    return values


def is_vace(config: Mapping[str, object]) -> bool:
    """Whether a transformer's configuration has VACE's blocks."""
    return bool(config.get("vace_layers"))


def transformer_class(config: Mapping[str, object]) -> Any:
    """Give diffusers' class of a transformer that has *config*."""
    from diffusers import WanTransformer3DModel, WanVACETransformer3DModel

    return WanVACETransformer3DModel if is_vace(config) else WanTransformer3DModel


def build(part: str, config: Mapping[str, object], where: str = "config") -> torch.nn.Module:
    """Build a part's module on the meta device, in eval mode, without gradients."""
    import torch

    values = allowed(part, config, where)
    try:
        with torch.device("meta"):
            module = _BUILDERS[part](values)
    except (TypeError, ValueError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise WeightsError(f"{where}: no {part} can be built: {error}", code="bad-config") from None
    return module.eval().requires_grad_(requires_grad=False)


def _text_encoder(config: dict[str, Any]) -> torch.nn.Module:
    from wanflow.models.trees.umt5 import UMT5Encoder

    return UMT5Encoder(config)


def _image_encoder(config: dict[str, Any]) -> torch.nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    settings = CLIPVisionConfig(**config)
    settings._attn_implementation = "sdpa"  # noqa: SLF001 - the documented way is from_pretrained only
    module: torch.nn.Module = CLIPVisionModel(settings)
    return module


def _transformer(config: dict[str, Any]) -> torch.nn.Module:
    from wanflow.models.trees.transformer import WanTransformer

    return WanTransformer(
        {n: v for n, v in config.items() if n not in _VACE_FIELDS or is_vace(config)}
    )


def _vae(config: dict[str, Any]) -> torch.nn.Module:
    from wanflow.models.trees.vae import WanAutoencoder

    return WanAutoencoder(config)


_BUILDERS: Mapping[str, Callable[[dict[str, Any]], torch.nn.Module]] = {
    "text_encoder": _text_encoder,
    "image_encoder": _image_encoder,
    "transformer": _transformer,
    "vae": _vae,
}
