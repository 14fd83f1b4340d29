"""Which module of a transformer a path in a LoRA's file names: official or diffusers', in any form.

The official names become diffusers' by `weights/official_names.py`'s converter. Kohya's have `_`
for every dot (https://github.com/kohya-ss/musubi-tuner), so that they are looked up, never split.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import attrs
import torch

# What stands before the names, with what people call it. Longer ones first.
PREFIXES = {
    "model.diffusion_model.": "ComfyUI", "diffusion_model.": "ComfyUI, diffusion-pipe, LightX2V",
    "base_model.model.": "peft", "transformer.": "diffusers", "lora_unet__": "Wan-Fun",
    "lora_unet_": "kohya, musubi", "lora_transformer_": "kohya", "": "bare",
}  # fmt: skip
_TOP = (
    "patch_embedding", "text_embedding.0", "text_embedding.2", "time_embedding.0",
    "time_embedding.2", "time_projection.1", "head.head", "img_emb.proj.0", "img_emb.proj.1",
    "img_emb.proj.3", "img_emb.proj.4", "vace_patch_embedding",
)  # fmt: skip
_ATTENTION = tuple(
    f"{attention}.{leaf}"
    for attention in ("self_attn", "cross_attn")
    for leaf in ("q", "k", "v", "o", "norm_q", "norm_k", "k_img", "v_img", "norm_k_img")
)
_BLOCK = (*_ATTENTION, "norm3", "ffn.0", "ffn.2", "before_proj", "after_proj")
_POSITIONS = ("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed")  # not converted


@attrs.frozen
class Known:
    """The paths of a model's modules and tables, and what they are."""

    modules: Mapping[str, str]  # by path, official or diffusers'
    underscored: Mapping[str, str]  # the same, by paths without dots
    parameters: Mapping[str, tuple[int, ...]]  # shapes, by diffusers' names
    linears: frozenset[str]  # diffusers' paths

    def module(self, path: str) -> tuple[str, str] | None:
        """Diffusers' path of what a file names *path*, and the prefix that stood there."""
        for prefix in PREFIXES:
            if not path.startswith(prefix):
                continue
            inner = path.removeprefix(prefix)
            table = self.underscored if "." not in inner and prefix.endswith("_") else self.modules
            if found := table.get(inner):
                return found, prefix
        return None


def known_in(module: torch.nn.Module) -> Known:
    """Collect what a plain transformer on `meta` has."""
    parameters = {name: tuple(p.shape) for name, p in module.named_parameters()}
    there = {name.rpartition(".")[0] for name in parameters} | parameters.keys()
    paths = {path: path for path in there if path}
    counts = {
        name: sum(1 for _ in found.children())
        for name in ("blocks", "vace_blocks")
        if (found := getattr(module, name, None)) is not None
    }
    for official in _official(counts):
        theirs = _diffusers(official)
        if theirs in there:
            paths[official] = theirs
    underscored = {path.replace(".", "_"): found for path, found in paths.items()}
    linears = (path for path, inside in module.named_modules() if type(inside) is torch.nn.Linear)
    return Known(paths, underscored, parameters, frozenset(linears))


def _official(counts: Mapping[str, int]) -> Iterator[str]:
    """Official paths, those that some model has; tables are named as their own module."""
    yield from (*_TOP, "head.modulation", _POSITIONS[0])
    for name, count in counts.items():
        for number, leaf in itertools.product(range(count), (*_BLOCK, "modulation")):
            yield f"{name}.{number}.{leaf}"


def _diffusers(official: str) -> str:
    """One official path as diffusers has it."""
    if official == _POSITIONS[0]:
        return _POSITIONS[1]
    return _convert(f"{official}.weight").removesuffix(".weight")


def _convert(name: str) -> str:
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    (converted,) = convert_wan_transformer_to_diffusers({name: name})
    return str(converted)
