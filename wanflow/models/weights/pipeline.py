"""What a folder is the model of as a whole: one that graphs run, and with all of its parts.

Files alone do not say it: each transformer of Wan 2.2's pair has every tensor of Wan 2.1's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from wanflow.errors import WeightsError

INDEX = "model_index.json"
_PIPELINES = frozenset({"WanPipeline", "WanImageToVideoPipeline", "WanVideoToVideoPipeline"})
_CLASSES: Mapping[str, frozenset[str]] = {  # `_class_name` in a part's config.json
    "transformer": frozenset({"WanTransformer3DModel", "WanModel"}),
    "vae": frozenset({"AutoencoderKLWan"}),
}
_PARTS = {
    "WanTransformer3DModel": "transformer", "AutoencoderKLWan": "vae", "umt5": "text_encoder",
    "clip_vision_model": "image_encoder",
}  # fmt: skip
_PAIRS = (("transformer", "transformer_2"), ("high_noise_model", "low_noise_model"))
_EXPERT = re.compile(r"(?:high|low)_?noise|^transformer_2$", re.IGNORECASE)
_INDEX_LIMIT_BYTES = 1 << 20


def check_pipeline(folder: Path, name: str = "") -> None:
    """WeightsError where *folder*, called *name*, says that it is a model of another kind."""
    kind = _object(folder / INDEX).get("_class_name")
    if isinstance(kind, str) and kind not in _PIPELINES:
        raise WeightsError(
            f"{name or folder}: is a {kind[:80]} by its {INDEX}, which no graph here runs",
            hint=f"what is run: {', '.join(sorted(_PIPELINES))}",
            code="other-pipeline",
        )


def check_experts(folder: Path, name: str = "") -> None:
    """WeightsError where *folder* has two transformers: a graph runs one."""
    if pair := experts(folder):
        raise WeightsError(
            f"{name or folder}: has two transformers, {' and '.join(pair)}, an expert each for a "
            "share of the steps; a graph here runs one of them, which is half of the model",
            hint="take a model of one transformer, such as Wan 2.1; one expert for all steps: "
            f"wanflow run GRAPH --weights MODEL={Path(name or folder) / pair[0]}",
            code="two-experts",
        )


def check_class(part: str, folder: Path) -> None:
    """WeightsError where a part's `config.json` names another class than the one that is built."""
    kind, known = _object(folder / "config.json").get("_class_name"), _CLASSES.get(part)
    if isinstance(kind, str) and known is not None and kind not in known:
        raise WeightsError(
            f"{folder / 'config.json'}: is of a {kind[:80]}, which no graph here runs",
            hint=f"as {part} it can be a {' or a '.join(sorted(known))}",
            code="other-pipeline",
        )


def part_of(folder: Path) -> str | None:
    """The part that a folder of any name is, by its `config.json`."""
    config = _object(folder / "config.json")
    kind = config.get("_class_name") or config.get("model_type")
    return _PARTS.get(kind) if isinstance(kind, str) else None


def experts(folder: Path) -> tuple[str, str] | None:
    """The two transformers of *folder*; None where it has one, whatever else its index says."""
    index = _object(folder / INDEX)
    if "transformer_2" in index:
        second = index["transformer_2"]
        is_there = any(second) if isinstance(second, list) else bool(second)
        return _PAIRS[0] if is_there else None
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if "transformer_2" in there:
        return _PAIRS[0]
    return _PAIRS[1] if there & set(_PAIRS[1]) else None


def said_of_expert(place: Path) -> str:
    """What to say where *place* is one of two experts, by its name or by what lies beside it."""
    root = place.parent
    pair = experts(root) if place.is_dir() else None
    if pair is not None and place.name in pair:
        other = pair[1 - pair.index(place.name)]
        return f"{place} is one of two experts; {other} beside it is left out"
    if _EXPERT.search(place.name):
        return f"{place} is by its name one of two experts; the other is left out"
    return ""


def _object(path: Path) -> dict[str, object]:
    """A small JSON object; nothing where there is none: whoever needs it says what is wrong."""
    try:
        if path.stat().st_size > _INDEX_LIMIT_BYTES:
            return {}
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
