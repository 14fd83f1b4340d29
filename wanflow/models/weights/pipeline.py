"""What a folder is the model of as a whole: one that graphs run, and with all of its parts.

Files alone do not say it: each transformer of Wan 2.2's pair has every tensor of Wan 2.1's. Which
steps are whose, and with what shift, is the graph's to say: `boundary_ratio` and a scheduler's
`flow_shift` are not read, since converted folders have those of other models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from wanflow.errors import WeightsError
from wanflow.graph.configs import EXPERTS

INDEX, CONFIG = "model_index.json", "config.json"
_PIPELINES = frozenset({
    "WanPipeline", "WanImageToVideoPipeline", "WanVideoToVideoPipeline", "WanVACEPipeline",
})  # fmt: skip
_CLASSES: Mapping[str, frozenset[str]] = {  # `_class_name` in a part's config.json
    "transformer": frozenset({
        "WanTransformer3DModel", "WanModel", "WanVACETransformer3DModel", "VaceWanModel",
    }),
    "vae": frozenset({"AutoencoderKLWan"}),
}  # fmt: skip
_PARTS = {
    "WanTransformer3DModel": "transformer", "WanVACETransformer3DModel": "transformer",
    "AutoencoderKLWan": "vae", "umt5": "text_encoder", "clip_vision_model": "image_encoder",
}  # fmt: skip
# Folders of two experts, in the order of EXPERTS, by diffusers' names and by the official ones.
PAIRS = (("transformer", "transformer_2"), ("high_noise_model", "low_noise_model"))
_EXPERT = re.compile(r"(high|low)_?noise|^transformer_2$", re.IGNORECASE)
# Kinds of Wan that nothing here runs, by what their classes and types are called.
_UNSERVED = (
    (re.compile("s2v|speech", re.IGNORECASE), "it is led by a sound track, which no graph takes"),
    (
        re.compile("animate", re.IGNORECASE),
        "it is led by poses and faces that other models find in a video, which no graph does",
    ),
)
_INDEX_LIMIT_BYTES = 1 << 20


def check_pipeline(folder: Path, name: str = "") -> None:
    """WeightsError where *folder*, called *name*, says that it is a model of another kind."""
    kind = _object(folder / INDEX).get("_class_name")
    if isinstance(kind, str) and kind not in _PIPELINES:
        raise WeightsError(
            f"{name or folder}: is a {kind[:80]} by its {INDEX}, which no graph here runs"
            f"{reason(kind)}",
            hint=f"what is run: {', '.join(sorted(_PIPELINES))}",
            code="other-pipeline",
        )


def reason(kind: str) -> str:
    """Why a kind of Wan is not run, to go on a message with; nothing for one that is not known."""
    return next((f": {why}" for pattern, why in _UNSERVED if pattern.search(kind)), "")


def check_one(folder: Path) -> None:
    """WeightsError where *folder* has two transformers, and the model of a graph is one."""
    if pair := experts(folder):
        raise WeightsError(
            f"{folder}: has two transformers, {' and '.join(pair)}, an expert each for a share of "
            "the steps; this graph runs one of them, which is half of the model",
            hint="graphs of two experts: t2v-a14b, i2v-a14b; one expert for all steps: "
            f"--weights MODEL={folder / pair[0]}",
            code="two-experts",
        )


def no_expert(folder: Path, expert: str) -> WeightsError:
    """The error for a folder of one transformer, of which an expert was asked for."""
    return WeightsError(
        f"{folder}: has one transformer for all steps; this graph wants the {worded(expert)} "
        "expert of two",
        hint="take a graph of one transformer, such as t2v-14b or i2v-14b-720p; a transformer in "
        "an expert's place: --weights MODEL=its own folder or file",
        code="one-expert",
    )


def half_of(folder: Path, expert: str) -> WeightsError:
    """The error for a folder of two experts that has not this one."""
    return WeightsError(
        f"{folder}: lacks the {worded(expert)} expert of two: no weights are in "
        f"{expert_folder(folder, expert)}",
        hint="fetch the rest of the model",
        code="missing-weights",
    )


def check_not_other(place: Path, expert: str) -> None:
    """WeightsError where a folder is, by its name, the other of two experts."""
    pair = pair_of(place)
    if pair is not None and place.name != pair[EXPERTS.index(expert)]:
        raise WeightsError(
            f"{place}: is the {worded(EXPERTS[pair.index(place.name)])} expert by its name, and "
            f"the {worded(expert)} one is wanted",
            hint=f"take {place.parent / pair[EXPERTS.index(expert)]}",
            code="other-expert",
        )


def worded(expert: str) -> str:
    """An expert in words."""
    return expert.replace("_", "-")


def check_class(part: str, folder: Path, name: str = "") -> None:
    """WeightsError where a part's `config.json` names another class than the one that is built.

    *folder* may be called *name*.
    """
    kind, known = _object(folder / CONFIG).get("_class_name"), _CLASSES.get(part)
    if isinstance(kind, str) and known is not None and kind not in known:
        raise WeightsError(
            f"{Path(name or folder) / CONFIG}: is of a {kind[:80]}, which no graph here runs"
            f"{reason(kind)}",
            hint=f"as {part} it can be a {' or a '.join(sorted(known))}",
            code="other-pipeline",
        )


def part_of(folder: Path) -> str | None:
    """The part that a folder of any name is, by its `config.json`."""
    config = _object(folder / CONFIG)
    kind = config.get("_class_name") or config.get("model_type")
    return _PARTS.get(kind) if isinstance(kind, str) else None


def experts(folder: Path) -> tuple[str, str] | None:
    """The two transformers of *folder*; None where it has one, whatever else its index says."""
    index = _object(folder / INDEX)
    if "transformer_2" in index:
        second = index["transformer_2"]
        is_there = any(second) if isinstance(second, list) else bool(second)
        return PAIRS[0] if is_there else None
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if "transformer_2" in there:
        return PAIRS[0]
    return PAIRS[1] if there & set(PAIRS[1]) else None


def expert_folder(folder: Path, expert: str) -> Path | None:
    """Where *folder* has an expert, or would have it; None where it is no folder of two."""
    pair = experts(folder)
    return None if pair is None else folder / pair[EXPERTS.index(expert)]


def pair_of(place: Path) -> tuple[str, str] | None:
    """The names of the two experts that the folder *place* is one of; None where it is none."""
    pair = experts(place.parent) if place.is_dir() else None
    return pair if pair is not None and place.name in pair else None


def said_of_expert(place: Path, expert: str = "") -> str:
    """What to say where *place* is one of two experts and alone, or by its name another one.

    *expert* is the one that it is wanted as, "" where it is wanted as a model of its own.
    """
    pair, name = pair_of(place), _EXPERT.search(place.name)
    if expert:
        is_other = name is not None and name[1] and not expert.startswith(name[1].lower())
        return f"{place} is by its name not the {worded(expert)} expert" if is_other else ""
    if pair is not None:
        other = pair[1 - pair.index(place.name)]
        return f"{place} is one of two experts; {other} beside it is left out"
    if name is not None:
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
