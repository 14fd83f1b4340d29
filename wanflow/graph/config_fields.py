"""The fields that a model's configuration may have: an allow-list, with the range of each.

Planning multiplies these numbers and running builds modules from them, so each has a bound.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from wanflow.graph.configs import KNOWN
from wanflow.units import is_finite


@attrs.frozen
class Field:
    """What one field may be. `kind` is int, float, bool, text, ints, floats or bools."""

    kind: str
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()
    nullable: bool = False

    def refusal(self, value: object) -> str:
        """Say what the field wants when `value` is not that; "" when it is."""
        if value is None and self.nullable:
            return ""
        if self.kind.endswith("s"):
            one = attrs.evolve(self, kind=self.kind[:-1], nullable=False)
            if isinstance(value, list) and len(value) <= 64 and not any(map(one.refusal, value)):
                return ""
            return f"wants a list, each {self._words(self.kind[:-1])}"
        return "" if self._fits(value) else f"wants {self._words(self.kind)}"

    def _fits(self, value: object) -> bool:
        if self.kind == "bool":
            return isinstance(value, bool)
        if self.kind == "text":
            return value in self.choices
        types = (int,) if self.kind == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, types):
            return False
        return is_finite(value) and self.minimum <= value <= self.maximum

    def _words(self, kind: str) -> str:
        if kind == "bool":
            return "true or false"
        if kind == "text":
            return f"one of {', '.join(self.choices)}"
        return f"{'an' if kind == 'int' else 'a'} {kind} of {self.minimum:g} to {self.maximum:g}"


_COLOURS = 3  # of a pixel
_WIDTH = Field("int", 1, 65536)
_LAYERS = Field("int", 1, 256)
_HEADS = Field("int", 1, 512)
_EPS = Field("float", 1e-12, 0.1)
_RATE = Field("float", 0, 1)

FIELDS: Mapping[str, Mapping[str, Field]] = {
    "text_encoder": {
        "vocab_size": Field("int", 1, 1_000_000), "d_model": _WIDTH, "d_kv": Field("int", 1, 1024),
        "d_ff": _WIDTH, "num_layers": _LAYERS, "num_heads": _HEADS,
        "relative_attention_num_buckets": Field("int", 4, 1024),
        "relative_attention_max_distance": Field("int", 2, 65536),
        "feed_forward_proj": Field("text", choices=("gated-gelu",)),
        "layer_norm_epsilon": _EPS, "dropout_rate": _RATE,
    },
    "image_encoder": {
        "hidden_size": _WIDTH, "intermediate_size": _WIDTH, "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS, "image_size": Field("int", 1, 4096),
        "patch_size": Field("int", 1, 1024), "hidden_act": Field("text", choices=("gelu",)),
        "layer_norm_eps": _EPS,
    },
    "transformer": {
        "patch_size": Field("ints", 1, 8), "num_attention_heads": _HEADS,
        "attention_head_dim": Field("int", 6, 1024), "in_channels": Field("int", 1, 1024),
        "out_channels": Field("int", 1, 1024), "text_dim": _WIDTH,
        "freq_dim": Field("int", 2, 65536), "ffn_dim": _WIDTH, "num_layers": _LAYERS,
        "cross_attn_norm": Field("bool"),
        "qk_norm": Field("text", choices=("rms_norm_across_heads",)), "eps": _EPS,
        "image_dim": Field("int", 1, 65536, nullable=True),
        "added_kv_proj_dim": Field("int", 1, 65536, nullable=True),
        "rope_max_seq_len": Field("int", 1, 65536),
        "pos_embed_seq_len": Field("int", 1, 65536, nullable=True),
        "vace_layers": Field("ints", 0, 255, nullable=True),
        "vace_in_channels": Field("int", 1, 1024, nullable=True),
    },
    "vae": {
        "base_dim": Field("int", 1, 4096),
        "decoder_base_dim": Field("int", 1, 4096, nullable=True), "z_dim": Field("int", 1, 256),
        "dim_mult": Field("ints", 1, 64), "num_res_blocks": Field("int", 1, 64),
        "attn_scales": Field("floats", 0, 1024), "temperal_downsample": Field("bools"),
        "dropout": _RATE, "latents_mean": Field("floats", -1000, 1000),
        "latents_std": Field("floats", 1e-6, 1000), "is_residual": Field("bool"),
        "in_channels": Field("int", 1, 64), "out_channels": Field("int", 1, 64),
        "patch_size": Field("int", 1, 8, nullable=True),
        "scale_factor_temporal": Field("int", 1, 64), "scale_factor_spatial": Field("int", 1, 64),
    },
}  # fmt: skip


MEASURED = "latents_mean", "latents_std"  # of an autoencoder, after its training
# Those that start from text alone; what else a model takes is asked for.
_PLAIN = ("wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan-tiny")
_PICTURES = ("wan2.1-i2v-14b",)  # of the part that those have not


def shared_fields(part: str) -> dict[str, object]:
    """Give the fields that a mapping may leave out: in which the plain configurations agree.

    What is measured of latents is Wan 2.1's own where it is left out.
    """
    names = _PLAIN if part in KNOWN[_PLAIN[0]] else _PICTURES
    first, *others = [KNOWN[name][part] for name in names]
    return {k: v for k, v in first.items() if k in MEASURED or all(o[k] == v for o in others)}


def required_fields(part: str) -> list[str]:
    """Name the fields that a mapping must have; those of some models alone it may leave out."""
    plain = KNOWN[_PLAIN[0]].get(part, KNOWN[_PICTURES[0]][part])
    return [name for name in FIELDS[part] if name in plain.keys() - shared_fields(part).keys()]


def inconsistencies(part: str, config: Mapping[str, object]) -> list[str]:
    """Say which fields of a whole configuration contradict each other."""
    faults = []
    if part == "text_encoder":
        faults.extend(_bucket_faults(config))
    if part == "transformer":
        if _length(config, "patch_size") != 3:
            faults.append("patch_size wants three numbers: frames, height, width")
        if _odd(config, "attention_head_dim") or _odd(config, "freq_dim"):
            faults.append("attention_head_dim and freq_dim must be even")
        faults.extend(_vace_faults(config))
        faults.extend(_picture_faults(config))
    if part == "vae":
        faults.extend(
            f"{name} wants z_dim ({config['z_dim']}) numbers"
            for name in ("latents_mean", "latents_std")
            if _length(config, name) != config["z_dim"]
        )
        if _length(config, "temperal_downsample") != _length(config, "dim_mult") - 1:
            faults.append("temperal_downsample wants one entry fewer than dim_mult")
        faults.extend([] if faults else _scale_faults(config))
    return faults


def _bucket_faults(config: Mapping[str, object]) -> list[str]:
    """Compare the distances that share buckets by their log with those that have one each."""
    buckets, most = (
        config[f"relative_attention_{name}"] for name in ("num_buckets", "max_distance")
    )
    if not isinstance(buckets, int) or not isinstance(most, int) or most > buckets // 4:
        return []
    return [
        f"relative_attention_max_distance must be over {buckets // 4}, a quarter of the buckets"
    ]


def _vace_faults(config: Mapping[str, object]) -> list[str]:
    """Compare the layers that have a VACE block beside them with those that are there."""
    layers, count = config.get("vace_layers"), config["num_layers"]
    if not isinstance(layers, list) or not isinstance(count, int):
        return []
    if layers[:1] == [0] and layers == sorted(set(layers)) and layers[-1] < count:
        return []
    return [f"vace_layers wants rising numbers from 0 on, each below num_layers ({count})"]


def _picture_faults(config: Mapping[str, object]) -> list[str]:
    """Compare what embeds a picture with what attends to it: both are there, or neither."""
    heads, head = config["num_attention_heads"], config["attention_head_dim"]
    if not isinstance(heads, int) or not isinstance(head, int):
        return []
    wanted = None if config.get("image_dim") is None else heads * head
    if config.get("added_kv_proj_dim") == wanted:
        return []
    said = "null without image_dim" if wanted is None else f"{wanted}, the width, with image_dim"
    return [f"added_kv_proj_dim must be {said}"]


def _scale_faults(config: Mapping[str, object]) -> list[str]:
    """Compare the stated scale factors and channels with what the layers do."""
    halvings, down = _length(config, "dim_mult") - 1, config["temperal_downsample"]
    patch = config["patch_size"] if isinstance(config["patch_size"], int) else 1
    spatial = 2**halvings * patch
    temporal = 2 ** (down.count(True) if isinstance(down, list) else 0)
    faults = []
    if config["scale_factor_spatial"] != spatial:
        faults.append(f"scale_factor_spatial must be {spatial} for this dim_mult")
    if config["scale_factor_temporal"] != temporal:
        faults.append(f"scale_factor_temporal must be {temporal} for this temperal_downsample")
    faults.extend(
        f"{name} must be {_COLOURS * patch**2} for this patch_size"
        for name in ("in_channels", "out_channels")
        if config[name] != _COLOURS * patch**2
    )
    return faults


def _length(config: Mapping[str, object], name: str) -> int:
    value = config[name]
    return len(value) if isinstance(value, list) else -1


def _odd(config: Mapping[str, object], name: str) -> bool:
    value = config[name]
    return isinstance(value, int) and value % 2 == 1
