"""What stands before every name of a part in files that others made of it.

`model.diffusion_model.`, `module.`, `first_stage_model.` and so on are not listed: a prefix is what
stands before names that the part is known by. What wraps single modules is taken away anywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import attrs

from wanflow.errors import WeightsError
from wanflow.models.weights.entry import Entry

# torch.compile, FSDP and activation checkpointing, each around any module of a model
_WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Names that tell a part, official and diffusers' or transformers'; no other part ends its names so.
_KNOWN: Mapping[str, tuple[str, ...]] = {
    "text_encoder": (
        "token_embedding.weight", "blocks.0.attn.q.weight", "blocks.0.ffn.gate.0.weight",
        "blocks.0.pos_embedding.embedding.weight", "shared.weight", "encoder.embed_tokens.weight",
        "encoder.block.0.layer.0.SelfAttention.q.weight", "encoder.final_layer_norm.weight",
        "encoder.block.0.layer.1.DenseReluDense.wo.weight",
    ),
    "transformer": (
        "blocks.0.self_attn.q.weight", "blocks.0.cross_attn.q.weight", "blocks.0.ffn.0.weight",
        "text_embedding.0.weight", "head.modulation", "blocks.0.attn1.to_q.weight",
        "blocks.0.attn2.to_q.weight", "blocks.0.ffn.net.0.proj.weight",
        "condition_embedder.text_embedder.linear_1.weight", "vace_patch_embedding.weight",
        "vace_blocks.0.self_attn.q.weight", "vace_blocks.0.attn1.to_q.weight",
    ),
    "vae": (
        "decoder.conv1.weight", "decoder.head.2.weight", "decoder.middle.0.residual.2.weight",
        "encoder.conv1.weight", "decoder.conv_in.weight", "decoder.conv_out.weight",
        "decoder.mid_block.resnets.0.conv1.weight", "encoder.conv_in.weight",
    ),
    "image_encoder": (
        "visual.cls_embedding", "visual.transformer.0.attn.to_qkv.weight",
        "visual.patch_embedding.weight", "embeddings.class_embedding", "pre_layrnorm.weight",
        "embeddings.patch_embedding.weight",
    ),
}  # fmt: skip


@attrs.frozen
class Unprefixed:
    """The tensors of a part by their own names, and what stood before these."""

    prefix: str
    entries: dict[str, Entry]


def without_prefix(part: str, entries: Mapping[str, Entry]) -> Unprefixed:
    """Take the part's prefix from its names; what is not under it keeps its name.

    WeightsError where a file has the part under two prefixes.
    """
    plain = {_WRAPPERS.sub("", name): name for name in entries}
    prefix = _prefix(part, plain, entries)
    renamed: dict[str, Entry] = {}
    for name, stored in plain.items():
        own = name.removeprefix(prefix)
        renamed[own] = entries[stored] if own == stored else _stored_as(entries[stored], stored)
    if len(renamed) != len(entries):
        path = next(iter(entries.values())).path
        raise WeightsError(
            f"{path}: without the prefix {prefix!r} two of its tensors have one name",
            code="same-tensor",
        )
    return Unprefixed(prefix, renamed)


def _prefix(part: str, names: Mapping[str, str], entries: Mapping[str, Entry]) -> str:
    """What stands before most of the known names; nothing rather than something."""
    votes = Counter(
        name.removesuffix(known)
        for name in names
        for known in _KNOWN[part]
        if name == known or name.endswith(f".{known}")
    )
    most = max(votes.values(), default=0)
    first, *others = [prefix for prefix in votes if votes[prefix] == most] or [""]
    if others and "" not in (first, *others):
        path = entries[names[next(name for name in names if name.startswith(first))]].path
        raise WeightsError(
            f"{path}: has the {part} under {len(others) + 1} prefixes: "
            f"{', '.join(map(repr, (first, *others)))}",
            hint="save the tensors of one of them as a file of their own",
            code="several-weights",
        )
    return "" if others else first


def _stored_as(entry: Entry, name: str) -> Entry:
    return attrs.evolve(entry, stored_as=name)
