"""What a video was made from, as its metadata keep it."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from wanflow import __version__
from wanflow.graph import BoundGraph
from wanflow.graph.values import ValueType
from wanflow.models.bound import LocatedModel
from wanflow.session.preparing.input_files import paths_of


def versions() -> dict[str, str]:
    """Versions of what decides the picture."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    """Read once: the metadata of a package are text that takes milliseconds to parse."""
    names = ("torch", "diffusers", "transformers", "av")
    return {"wanflow": __version__, **{n: importlib.metadata.version(n) for n in names}}


def _loras_of(models: Mapping[str, LocatedModel]) -> dict[str, object]:
    words = {n: [lora.words for lora in m.adapters.loras] for n, m in models.items() if m.loras}
    return {"loras": words} if words else {}


def recipe_of(
    graph: BoundGraph,
    chosen: Mapping[str, str],
    files: Mapping[str, ValueType],
    models: Mapping[str, LocatedModel],
) -> dict[str, object]:
    """What the video was made from, as its metadata keep it: of files their names alone."""
    inputs = graph.plain_inputs()
    return {
        "wanflow": __version__,
        "graph": graph.name,
        "inputs": inputs
        | {
            name: ",".join(Path(path).name for path in paths_of(kind, inputs[name]))
            for name, kind in files.items()
        },
        "precision": dict(chosen),
        **_loras_of(models),
        "versions": versions(),
    }
