"""Build the diffusers and transformers modules on the meta device from an allow-list of fields.

Nothing in a weights folder chooses a class or runs code: a `config.json` is read as plain JSON, and
only the fields named here, of the types named here, reach a constructor.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from wanflow.errors import WeightsError

_NUMBER = (int, float)
_FIELDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "text_encoder": {
        "vocab_size": (int,), "d_model": (int,), "d_kv": (int,), "d_ff": (int,),
        "num_layers": (int,), "num_heads": (int,), "relative_attention_num_buckets": (int,),
        "relative_attention_max_distance": (int,), "dropout_rate": _NUMBER,
        "layer_norm_epsilon": _NUMBER, "feed_forward_proj": (str,),
    },
    "transformer": {
        "patch_size": (list, tuple), "num_attention_heads": (int,), "attention_head_dim": (int,),
        "in_channels": (int,), "out_channels": (int,), "text_dim": (int,), "freq_dim": (int,),
        "ffn_dim": (int,), "num_layers": (int,), "cross_attn_norm": (bool,), "qk_norm": (str,),
        "eps": _NUMBER, "image_dim": (int, type(None)), "added_kv_proj_dim": (int, type(None)),
        "rope_max_seq_len": (int,), "pos_embed_seq_len": (int, type(None)),
    },
    "vae": {
        "base_dim": (int,), "decoder_base_dim": (int, type(None)), "z_dim": (int,),
        "dim_mult": (list, tuple), "num_res_blocks": (int,), "attn_scales": (list, tuple),
        "temperal_downsample": (list, tuple), "dropout": _NUMBER, "latents_mean": (list, tuple),
        "latents_std": (list, tuple), "is_residual": (bool,), "in_channels": (int,),
        "out_channels": (int,), "patch_size": (int, type(None)), "scale_factor_temporal": (int,),
        "scale_factor_spatial": (int,),
    },
}  # fmt: skip
_REQUIRED = {
    "text_encoder": ("vocab_size", "d_model", "num_layers", "num_heads"),
    "transformer": ("num_attention_heads", "attention_head_dim", "num_layers", "text_dim"),
    "vae": ("base_dim", "z_dim"),
}


def read_config(folder: Path) -> dict[str, object]:
    """Read a weights folder's `config.json`; WeightsError when it is missing or no JSON object."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}", code="bad-config") from None
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: is not a JSON object", code="bad-config")
    return found


def allowed(part: str, config: Mapping[str, object], where: str) -> dict[str, Any]:
    """Keep the known fields of *config*; WeightsError names a missing or mistyped one."""
    fields = _FIELDS[part]
    kept = {name: value for name, value in config.items() if name in fields}
    for name, value in kept.items():
        wanted = fields[name]
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise WeightsError(
                f"{where}: {name} is {value!r}, not {' or '.join(t.__name__ for t in wanted)}",
                code="bad-config",
            )
    missing = [name for name in _REQUIRED[part] if name not in kept]
    if missing:
        raise WeightsError(f"{where}: {part} config lacks {', '.join(missing)}", code="bad-config")
    return kept


def build(part: str, config: Mapping[str, object], where: str = "config") -> torch.nn.Module:
    """Build a part's module on the meta device, in eval mode, without gradients."""
    kept = allowed(part, config, where)
    try:
        with torch.device("meta"):
            module = _BUILDERS[part](kept)
    except (TypeError, ValueError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise WeightsError(f"{where}: no {part} can be built: {error}", code="bad-config") from None
    return module.eval().requires_grad_(requires_grad=False)


def _text_encoder(config: dict[str, Any]) -> torch.nn.Module:
    from transformers import UMT5Config, UMT5EncoderModel

    settings = UMT5Config(**config)
    settings._attn_implementation = "sdpa"  # noqa: SLF001 - the documented way is from_pretrained only
    module: torch.nn.Module = UMT5EncoderModel(settings)
    return module


def _transformer(config: dict[str, Any]) -> torch.nn.Module:
    from diffusers import WanTransformer3DModel

    module: torch.nn.Module = WanTransformer3DModel(**config)
    return module


def _vae(config: dict[str, Any]) -> torch.nn.Module:
    from diffusers import AutoencoderKLWan

    module: torch.nn.Module = AutoencoderKLWan(**config)
    return module


_BUILDERS: Mapping[str, Callable[[dict[str, Any]], torch.nn.Module]] = {
    "text_encoder": _text_encoder,
    "transformer": _transformer,
    "vae": _vae,
}
