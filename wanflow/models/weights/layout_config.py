"""The configuration of a part as its weights on disk say it, where the graph does not.

An official folder has a `config.json` for the DiT alone; text encoder, VAE and CLIP are what the
official code builds, in the sizes of their tensors. Field names: github.com/Wan-Video/Wan2.1,
wan/modules/model.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wanflow.errors import WeightsError
from wanflow.graph.config_fields import FIELDS
from wanflow.graph.configs import known_config
from wanflow.models.segments.build import read_config
from wanflow.models.weights.pipeline import reason
from wanflow.models.weights.shape_config import fitted

if TYPE_CHECKING:
    from wanflow.models.weights.entry import Entry

_WAN = "wan2.1-t2v-14b"  # text encoder and VAE are the same in all of Wan 2.1
_PICTURES = "wan2.1-i2v-14b"  # so is CLIP in those that have it
_KINDS = ("t2v", "i2v", "flf2v", "ti2v", "vace")
_FIELDS = {
    "num_heads": "num_attention_heads",
    "in_dim": "in_channels",
    "out_dim": "out_channels",
    "ffn_dim": "ffn_dim",
    "freq_dim": "freq_dim",
    "num_layers": "num_layers",
    "eps": "eps",
    "vace_layers": "vace_layers",
    "vace_in_dim": "vace_in_channels",
}
_IMAGE_TOKENS = 257
_LAYERS = FIELDS["transformer"]["num_layers"]


def is_told(part: str, place: Path) -> bool:
    """Whether weights say their own configuration: by a `config.json`, or as official files."""
    folder = place if place.is_dir() else place.parent
    return (place.is_file() and part != "transformer") or (folder / "config.json").is_file()


def config_of(
    part: str, place: Path, entries: Mapping[str, Entry]
) -> tuple[Mapping[str, object], str]:
    """A part's configuration in diffusers' fields, and where it comes from.

    *entries* are its tensors under diffusers' names.
    """
    folder = place if place.is_dir() else place.parent
    if place.is_file() and part != "transformer":
        known = known_config(_PICTURES if part == "image_encoder" else _WAN, part)
        return fitted(part, known, entries), str(place)
    if place.is_file() and not (folder / "config.json").is_file():
        raise WeightsError(
            f"{place}: has no config.json beside it",
            hint="give the model a `config` in the graph",
            code="bad-config",
        )
    config, where = read_config(folder), str(folder / "config.json")
    if part != "transformer" or "dim" not in config:
        return config, where
    return fitted(part, _from_official(config, where), entries), where


def _from_official(config: Mapping[str, object], where: str) -> dict[str, object]:
    """Say a `WanModel`'s configuration in the fields of diffusers' transformers.

    What of pictures it takes beside the latents, its tensors tell: Wan2.2's i2v takes nothing.
    """
    kind, width, heads = config.get("model_type"), config["dim"], config.get("num_heads")
    if kind not in _KINDS:
        raise WeightsError(
            f"{where}: model_type {kind!r} is not served{reason(str(kind))}",
            hint=", ".join(_KINDS),
            code="bad-config",
        )
    if type(width) is not int or type(heads) is not int or heads < 1 or width % heads:
        raise WeightsError(
            f"{where}: dim {width!r} is not a multiple of num_heads {heads!r}", code="bad-config"
        )
    fields = known_config(_WAN, "transformer")
    fields |= {new: config[old] for old, new in _FIELDS.items() if old in config}
    fields["attention_head_dim"] = width // heads
    count = fields["num_layers"]
    if kind == "vace" and fields.get("vace_layers") is None and not _LAYERS.refusal(count):
        fields["vace_layers"] = list(range(0, int(str(count)), 2))  # vace_model.py
    if kind == "flf2v":
        fields["pos_embed_seq_len"] = 2 * _IMAGE_TOKENS  # of both frames
    return fields
