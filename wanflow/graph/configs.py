"""Known model configurations, so that planning needs no weights.

The values are the config fields of the official repositories (diffusers, transformers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from wanflow.errors import InputError
from wanflow.graph.wording import did_you_mean, quoted

Config = Mapping[str, object]

PARTS = ("text_encoder", "image_encoder", "transformer", "vae")
EXPERTS = ("high_noise", "low_noise")  # of a model of two transformers: which steps are whose

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

# Wan 2.2's own, of TI2V: pixels in patches of two by two, blocks with a shortcut around each.
_VAE_2_2: Config = {
    **_VAE,
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "latents_mean": [
        -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557,
        -0.1382, 0.0542, 0.2813, 0.0891, 0.157, -0.0098, 0.0375, -0.1825,
        -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
        -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123,
        -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.052, 0.3748,
        0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
    ],
    "latents_std": [
        0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013,
        0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
        0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
        0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
        0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
        0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
    ],
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
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

_TRANSFORMER_TI2V: Config = {
    **_TRANSFORMER_1_3B,
    "num_attention_heads": 24, "in_channels": 48, "out_channels": 48, "ffn_dim": 14336,
}  # fmt: skip

# A hint's channels: 16 of what is kept, 16 of what is made anew, 64 of the mask's pixels.
_HINT_CHANNELS = 96

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

_VAE_TINY_2_2: Config = {**_VAE_2_2, "base_dim": 8, "decoder_base_dim": 12}


def _with_vace(config: Config, layers: Sequence[int]) -> Config:
    """A transformer with a VACE block beside each of *layers*."""
    return {**config, "vace_layers": list(layers), "vace_in_channels": _HINT_CHANNELS}


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
        "wan2.1-vace-1.3b": {
            "text_encoder": _TEXT_XXL,
            "transformer": _with_vace(_TRANSFORMER_1_3B, range(0, 30, 2)),
            "vae": _VAE,
        },
        "wan2.1-vace-14b": {
            "text_encoder": _TEXT_XXL,
            "transformer": _with_vace(_TRANSFORMER_14B, range(0, 40, 5)),
            "vae": _VAE,
        },
        "wan2.2-t2v-a14b": {  # each of its two transformers
            "text_encoder": _TEXT_XXL,
            "transformer": _TRANSFORMER_14B,
            "vae": _VAE,
        },
        "wan2.2-i2v-a14b": {  # which sees its picture as latents alone
            "text_encoder": _TEXT_XXL,
            "transformer": {**_TRANSFORMER_14B, "in_channels": 36},
            "vae": _VAE,
        },
        "wan2.2-ti2v-5b": {
            "text_encoder": _TEXT_XXL,
            "transformer": _TRANSFORMER_TI2V,
            "vae": _VAE_2_2,
        },
        "wan-tiny": {
            "text_encoder": _TEXT_TINY,
            "transformer": _TRANSFORMER_TINY,
            "vae": _VAE_TINY,
        },
        "wan-tiny-i2v": {
            "text_encoder": _TEXT_TINY,
            "transformer": {**_TRANSFORMER_TINY, "in_channels": 36},
            "vae": _VAE_TINY,
        },
        "wan-tiny-ti2v": {
            "text_encoder": _TEXT_TINY,
            "transformer": {**_TRANSFORMER_TINY, "in_channels": 48, "out_channels": 48},
            "vae": _VAE_TINY_2_2,
        },
        "wan-tiny-vace": {
            "text_encoder": _TEXT_TINY,
            "transformer": _with_vace(_TRANSFORMER_TINY, range(0, 8, 2)),
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
