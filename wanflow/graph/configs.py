"""Known model configurations, so that planning needs no weights.

The values are the config fields of the official repositories (diffusers, transformers).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from wanflow.errors import InputError
from wanflow.graph.wording import did_you_mean, quoted

Config = Mapping[str, object]

PARTS = ("text_encoder", "image_encoder", "transformer", "vae")

_TEXT_XXL: Config = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "feed_forward_proj": "gated-gelu",
    "layer_norm_epsilon": 1e-6,
    "dropout_rate": 0.1,
}

_TRANSFORMER_1_3B: Config = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 8960,
    "num_layers": 30,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": None,
    "added_kv_proj_dim": None,
    "rope_max_seq_len": 1024,
    "pos_embed_seq_len": None,
}

# CLIP ViT-H/14 of open-clip-xlm-roberta-large-vit-huge-14: the vision tower.
_IMAGE_H14: Config = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
}

_VAE: Config = {
    "base_dim": 96,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],  # diffusers' spelling
    "dropout": 0.0,
    "latents_mean": [
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    ],
    "latents_std": [
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
        3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    ],
    "is_residual": False,
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": None,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 8,
}  # fmt: skip

_TEXT_TINY: Config = {
    **_TEXT_XXL,
    "vocab_size": 1024, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 3, "num_heads": 4,
}  # fmt: skip

_TRANSFORMER_14B: Config = {
    **_TRANSFORMER_1_3B,
    "num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40,
}  # fmt: skip

# 16 channels of noise, 4 of mask and 16 of the given frames' latents; the pictures' tokens too.
_TRANSFORMER_I2V: Config = {
    **_TRANSFORMER_14B,
    "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120,
}  # fmt: skip

_TRANSFORMER_TINY: Config = {
    **_TRANSFORMER_1_3B,
    "num_attention_heads": 4, "attention_head_dim": 32, "text_dim": 128, "freq_dim": 128,
    "ffn_dim": 256, "num_layers": 8,
}  # fmt: skip

_VAE_TINY: Config = {
    **_VAE,
    "base_dim": 8,
    "latents_mean": [
        0.1629, 0.0787, -0.1086, 0.2761, -0.1085, 0.4301, 0.2726, -0.0671,
        -0.013, -0.1025, -0.1895, 0.2891, -0.2422, 0.0454, 0.0258, -0.3255,
    ],
    "latents_std": [
        1.7093, 1.461, 1.4302, 1.6767, 1.6678, 2.2685, 2.0979, 2.902,
        1.2368, 1.9224, 3.311, 2.3051, 1.8087, 2.1624, 2.1724, 3.0829,
    ],
}  # fmt: skip

KNOWN: Mapping[str, Mapping[str, Config]] = MappingProxyType(
    {
        "wan2.1-t2v-1.3b": {
            "text_encoder": _TEXT_XXL,
            "transformer": _TRANSFORMER_1_3B,
            "vae": _VAE,
        },
        "wan2.1-t2v-14b": {
            "text_encoder": _TEXT_XXL,
            "transformer": _TRANSFORMER_14B,
            "vae": _VAE,
        },
        "wan2.1-i2v-14b": {
            "text_encoder": _TEXT_XXL,
            "image_encoder": _IMAGE_H14,
            "transformer": _TRANSFORMER_I2V,
            "vae": _VAE,
        },
        "wan2.1-flf2v-14b": {
            "text_encoder": _TEXT_XXL,
            "image_encoder": _IMAGE_H14,
            "transformer": {**_TRANSFORMER_I2V, "pos_embed_seq_len": 514},  # two pictures' tokens
            "vae": _VAE,
        },
        "wan-tiny": {
            "text_encoder": _TEXT_TINY,
            "transformer": _TRANSFORMER_TINY,
            "vae": _VAE_TINY,
        },
    }
)


def known_config(name: str, part: str) -> dict[str, object]:
    """Give a copy of the fields of a part of a known configuration."""
    if name not in KNOWN:
        raise InputError(
            f"no known configuration {quoted(name)}",
            hint=did_you_mean(name, KNOWN),
            code="unknown-config",
        )
    if part not in KNOWN[name]:
        raise InputError(
            f"configuration '{name}' has no part {quoted(part)}",
            hint=did_you_mean(part, KNOWN[name]),
            code="config-part",
        )
    fields = KNOWN[name][part]
    return {key: list(v) if isinstance(v, list) else v for key, v in fields.items()}
