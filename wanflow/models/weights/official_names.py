"""The names of the official files of Wan, and what diffusers and transformers call the same.

diffusers' own converters name the tensors of the DiT and of the VAE; here they convert names and
no tensors. The text encoder and CLIP have maps of our own: diffusers' script takes these two from
elsewhere (scripts/convert_wan_to_diffusers.py). So have the blocks of Wan2.2's VAE, which the
converter does not know. Official names: github.com/Wan-Video/Wan2.1, wan/modules/t5.py and clip.py,
and Wan2.2, wan/modules/vae2_2.py; the others: transformers' `UMT5EncoderModel` and
`CLIPVisionModel`, diffusers' `AutoencoderKLWan`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import attrs

from wanflow.errors import WeightsError
from wanflow.models.weights.entry import Entry

Entries = dict[str, Entry]

# Tensors that only the official file of a part has, at the end of their names. Of a transformer a
# file may have a share alone: a shard, or VACE's part.
_MARKS = {
    "text_encoder": ("token_embedding.weight", "enc.output_norm.weight"),
    "transformer": ("head.modulation", ".self_attn.q.weight"),
    "vae": ("decoder.middle.0.residual.0.gamma",),
    "image_encoder": ("visual.cls_embedding",),
}
# The converter of diffusers 0.42.1 lacks one name of the first-and-last-frame model.
_TRANSFORMER = {"img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed"}

_UMT5 = {
    "token_embedding": "shared",
    "norm": "encoder.final_layer_norm",
}
_UMT5_BLOCK = {
    "norm1": "layer.0.layer_norm",
    **{f"attn.{name}": f"layer.0.SelfAttention.{name}" for name in "qkvo"},
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
_CLIP = {
    "cls_embedding": "embeddings.class_embedding",
    "patch_embedding.weight": "embeddings.patch_embedding.weight",
    "pos_embedding": "embeddings.position_embedding.weight",
    **{f"pre_norm.{kind}": f"pre_layrnorm.{kind}" for kind in ("weight", "bias")},
    **{f"post_norm.{kind}": f"post_layernorm.{kind}" for kind in ("weight", "bias")},
}
_CLIP_BLOCK = {
    "norm1": "layer_norm1",
    "attn.proj": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}
# What llama.cpp calls the same in its GGUF files (gguf-py, gguf/constants.py, `T5ENCODER`).
_LLAMA = {"token_embd": "shared", "enc.output_norm": "encoder.final_layer_norm"}
_LLAMA_BLOCK = {
    "attn_norm": "layer.0.layer_norm",
    **{f"attn_{name}": f"layer.0.SelfAttention.{name}" for name in "qkvo"},
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "ffn_norm": "layer.1.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
}


# Of Wan2.2's VAE: a list in a list, whose last element may halve or double.
_VAE_BLOCK = re.compile(r"(en|de)coder\.(down|up)samples\.(\d+)\.\2samples\.(\d+)\.(.+)")
_VAE_RESNET = {
    "residual.0": "norm1", "residual.2": "conv1", "residual.3": "norm2", "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}  # fmt: skip


def is_official(part: str, entries: Mapping[str, Entry]) -> bool:
    """Whether the tensors have the official names of *part*."""
    return any(name.endswith(_MARKS[part]) for name in entries)


def renamed(part: str, entries: Mapping[str, Entry]) -> Entries:
    """Give official tensors the names that diffusers or transformers has; leave others alone.

    A fused tensor becomes several, each a range of its rows. A name that no map knows stays.
    """
    if not is_official(part, entries):
        return dict(entries)
    pieces: Entries = {}
    for old, entry in entries.items():
        for new, piece in _PIECES[part](old, entry).items():
            if new in pieces:
                raise WeightsError(
                    f"{entry.path}: tensors {pieces[new].stored_as!r} and {old!r} are both {new!r}",
                    code="same-tensor",
                )
            pieces[new] = attrs.evolve(piece, stored_as=entry.stored_as or old)
    return _converted(part, pieces) if part in _CONVERTED else pieces


def _same(old: str, entry: Entry) -> Entries:
    return {old: entry}


def _umt5(old: str, entry: Entry) -> Entries:
    stem = old.removesuffix(".weight")
    if stem in _LLAMA:
        return {f"{_LLAMA[stem]}.weight": entry}
    if block := re.fullmatch(r"enc\.blk\.(\d+)\.(.+)", stem):
        new = _LLAMA_BLOCK.get(block[2])
        return {f"encoder.block.{block[1]}.{new}.weight" if new else old: entry}
    if block := re.fullmatch(r"blocks\.(\d+)\.(.+)", stem):
        new = _UMT5_BLOCK.get(block[2])
        return {f"encoder.block.{block[1]}.{new}.weight" if new else old: entry}
    return {f"{_UMT5[stem]}.weight" if stem in _UMT5 else old: entry}


def _vae(old: str, entry: Entry) -> Entries:
    """Name the blocks of Wan2.2's; all else, and Wan2.1's, diffusers' converter does."""
    if not (block := _VAE_BLOCK.fullmatch(old)):
        return {old: entry}
    coder, way, number, place, inner = block.groups()
    if inner.startswith(("resample.", "time_conv.")):
        inside = f"{way}sampler.{inner}"
    else:
        module, _, kind = inner.rpartition(".")
        inside = f"resnets.{place}.{_VAE_RESNET.get(module, module)}.{kind}"
    return {f"{coder}coder.{way}_blocks.{number}.{inside}": entry}


def _clip(old: str, entry: Entry) -> Entries:
    """Take the vision tower: what `CLIPVisionModel` has of it. The rest keeps its name."""
    inner = old.removeprefix("visual.")
    if block := re.fullmatch(r"visual\.transformer\.(\d+)\.(.+)\.(weight|bias)", old):
        number, stem, kind = block.groups()
        layer = f"encoder.layers.{number}"
        if stem == "attn.to_qkv":
            names = [f"{layer}.self_attn.{name}_proj.{kind}" for name in "qkv"]
            return dict(zip(names, _thirds(entry), strict=True))
        return {f"{layer}.{_CLIP_BLOCK[stem]}.{kind}" if stem in _CLIP_BLOCK else old: entry}
    if inner == old or inner not in _CLIP:
        return {old: entry}
    if inner in ("cls_embedding", "pos_embedding"):
        entry = _without_batch(entry, sides=1 if inner == "cls_embedding" else 2)
    return {_CLIP[inner]: entry}


def _thirds(entry: Entry) -> list[Entry]:
    """Cut a tensor's rows in three: query, key and value, in this order (wan/modules/clip.py).

    What cannot be cut stays whole, and is no module's shape.
    """
    rows, *width = entry.shape or (1,)
    if rows % 3:
        return [entry] * 3
    shape = (rows // 3, *width)
    nbytes = math.prod(shape) * entry.dtype.itemsize
    return [attrs.evolve(entry, offset=entry.offset + n * nbytes, shape=shape) for n in range(3)]


def _without_batch(entry: Entry, sides: int) -> Entry:
    """Drop leading sides of one, to *sides*; a tensor of another shape is left for the check."""
    front, shape = entry.shape[:-sides], entry.shape[-sides:]
    return attrs.evolve(entry, shape=shape) if set(front) == {1} else entry


def _converted(part: str, entries: Entries) -> Entries:
    """Let diffusers' converter name them: it is given names in place of tensors."""
    from diffusers.loaders import single_file_utils

    convert: Callable[[dict[str, str]], dict[str, str]]
    convert = getattr(single_file_utils, _CONVERTED[part])
    try:
        names = convert({name: name for name in entries})
    except (AttributeError, TypeError, LookupError, ValueError):
        names = {}
    if sorted(names.values()) != sorted(entries):
        path = next(iter(entries.values())).path
        raise WeightsError(
            f"{path}: diffusers cannot tell the names of this {part} apart", code="unknown-names"
        )
    return {_TRANSFORMER.get(new, new): entries[old] for new, old in names.items()}


_CONVERTED = {
    "transformer": "convert_wan_transformer_to_diffusers",
    "vae": "convert_wan_vae_to_diffusers",
}
_PIECES: Mapping[str, Callable[[str, Entry], Entries]] = {
    "text_encoder": _umt5,
    "transformer": _same,
    "vae": _vae,
    "image_encoder": _clip,
}
