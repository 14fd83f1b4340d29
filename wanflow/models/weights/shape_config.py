"""Fields of a configuration that the shapes of the tensors tell, where no `config.json` does.

An official folder describes its DiT alone, and not all of that: what text and pictures reach it as
is what the official code builds. A model of another width, a tiny twin for one, is told from its
tensors. Only sizes are: heads of CLIP are the official code's, the latents' mean and deviation
those of the known autoencoder of that size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from wanflow.graph.config_fields import MEASURED
from wanflow.graph.configs import KNOWN, known_config
from wanflow.models.weights.kinds import is_residual

if TYPE_CHECKING:
    from wanflow.models.weights.entry import Entry

Entries: TypeAlias = "Mapping[str, Entry]"

_RESIDUAL = "wan2.2-ti2v-5b"  # whose autoencoder is of a kind of its own
_LAYER = "encoder.block.0.layer"
_SIZES: Mapping[str, Mapping[str, tuple[str, int]]] = {  # by field: a tensor, and which side
    "text_encoder": {
        "vocab_size": ("shared.weight", 0),
        "d_model": ("shared.weight", 1),
        "d_ff": (f"{_LAYER}.1.DenseReluDense.wi_0.weight", 0),
        "num_heads": (f"{_LAYER}.0.SelfAttention.relative_attention_bias.weight", 1),
        "relative_attention_num_buckets": (
            f"{_LAYER}.0.SelfAttention.relative_attention_bias.weight",
            0,
        ),
    },
    "transformer": {
        "text_dim": ("condition_embedder.text_embedder.linear_1.weight", 1),
        "image_dim": ("condition_embedder.image_embedder.norm1.weight", 0),
        "added_kv_proj_dim": ("blocks.0.attn2.add_k_proj.weight", 1),
        "pos_embed_seq_len": ("condition_embedder.image_embedder.pos_embed", 1),
        "vace_in_channels": ("vace_patch_embedding.weight", 1),
    },
    "vae": {
        "base_dim": ("decoder.norm_out.gamma", 0),
        "z_dim": ("post_quant_conv.weight", 0),
        "out_channels": ("decoder.conv_out.weight", 0),
    },
    "image_encoder": {
        "hidden_size": ("embeddings.class_embedding", 0),
        "intermediate_size": ("encoder.layers.0.mlp.fc1.weight", 0),
        "patch_size": ("embeddings.patch_embedding.weight", 2),
    },
}


def fitted(part: str, config: Mapping[str, object], entries: Entries) -> dict[str, object]:
    """Give *config* the sizes that the tensors (under diffusers' names) have.

    What no tensor tells stays. Whether they fit together is for whoever builds the module and
    checks every tensor against it.
    """
    fields = dict(config)
    if part == "vae" and is_residual(entries):
        fields = known_config(_RESIDUAL, part)
    for field, (name, side) in _SIZES[part].items():
        shape = entries[name].shape if name in entries else ()
        if len(shape) > side:
            fields[field] = shape[side]
    if part in _MORE:
        _MORE[part](fields, entries)
    if part == "vae" and fields != config:  # of another size: its own statistics are another's
        fields |= _measured(fields)
    return fields


def _measured(config: Mapping[str, object]) -> dict[str, object]:
    """Give the latents' statistics of the known autoencoder that has these sizes."""
    for known in (parts["vae"] for parts in KNOWN.values()):
        if all(config.get(name) == value for name, value in known.items() if name not in MEASURED):
            return {name: known[name] for name in MEASURED}
    return {}


def _text_encoder(fields: dict[str, object], entries: Entries) -> None:
    fields["num_layers"] = _count(r"encoder\.block\.(\d+)\.", entries) or fields["num_layers"]
    query = entries.get(f"{_LAYER}.0.SelfAttention.q.weight")
    heads = fields["num_heads"]
    if query is not None and query.shape and isinstance(heads, int) and heads:
        fields["d_kv"] = query.shape[0] // heads


def _image_encoder(fields: dict[str, object], entries: Entries) -> None:
    layers = _count(r"encoder\.layers\.(\d+)\.", entries)
    fields["num_hidden_layers"] = layers or fields["num_hidden_layers"]
    places = entries.get("embeddings.position_embedding.weight")
    patch = fields["patch_size"]
    if places is not None and places.shape and isinstance(patch, int):
        fields["image_size"] = patch * math.isqrt(max(places.shape[0] - 1, 0))


def _count(pattern: str, entries: Entries) -> int:
    """How many of something are numbered in the names."""
    matches = (re.match(pattern, name) for name in entries)
    return len({match[1] for match in matches if match})


def _vae(fields: dict[str, object], entries: Entries) -> None:
    """Wan2.2's has another width on the way in, and takes patches of pixels."""
    if not fields["is_residual"]:
        return
    first = entries.get("encoder.conv_in.weight")
    fields["decoder_base_dim"] = fields["base_dim"]
    if first is not None and len(first.shape) > 1:
        fields |= {"base_dim": first.shape[0], "in_channels": first.shape[1]}


_MORE: Mapping[str, Callable[[dict[str, object], Entries], None]] = {
    "text_encoder": _text_encoder,
    "image_encoder": _image_encoder,
    "vae": _vae,
}
