"""Which files of a repository a graph needs, by their names alone: the parts of `layouts`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from wanflow.models.weights.layouts import OFFICIAL
from wanflow.models.weights.pipeline import PAIRS

# As `tokenizer.py` looks for it, with what lies beside it.
_TOKENIZERS = ("tokenizer/*", "google/umt5-xxl/*")
_CONFIGS = ("config.json", "model_index.json", "diffusion_pytorch_model*.safetensors.index.json")
_TEXTS = (".json", ".model", ".txt")


def wanted(paths: Iterable[str]) -> list[str]:
    """Name the files of *paths* that hold weights, their configs and the tokenizer.

    Nothing where no part of a model is among them. Of a part that is there twice, what
    `layouts.find_part` would take.
    """
    paths = sorted(paths)
    weights = [path for part in OFFICIAL for path in _part(paths, part)]
    if not weights:
        return []
    configs = [path for path in paths if _matches(path, _CONFIGS)]
    tokenizer = [p for p in paths if _matches(p, _TOKENIZERS) and p.endswith(_TEXTS)]
    return sorted({*weights, *configs, *tokenizer})


def _part(paths: Sequence[str], part: str) -> list[str]:
    # Of a folder of two experts, both.
    pairs = PAIRS if part == "transformer" else ((part,),)
    for folders in pairs:
        own = [path for path in paths if _matches(path, [f"{f}/*.safetensors" for f in folders])]
        if own:
            return own + [p for p in paths if _matches(p, [f"{f}/*.json" for f in folders])]
    for pattern in OFFICIAL[part]:
        if matching := [path for path in paths if _matches(path, (pattern,))]:
            return matching
    return []


def _matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path is of a pattern whose folders are as many."""
    return any(fnmatchcase(path, p) and path.count("/") == p.count("/") for p in patterns)
