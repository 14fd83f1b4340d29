"""What decides the cost of a stage's calls: all that its program is made from, as plain data."""

from __future__ import annotations

from typing import Any

import attrs

from wanflow.models.bound import LocatedModel
from wanflow.models.weights.checkpoint import Checkpoint
from wanflow.stages import StageSetup


def stage_identity(setup: StageSetup, located: LocatedModel | None) -> dict[str, object]:
    """Give the identity of a stage.

    Text is left out: it reaches tensors only through a call that stands in for what is outside of
    them, and from there on by the shape of its ids, which every call is looked up by. Of pictures
    it counts which ones are given.
    """
    bound, around = setup.bound, setup.around
    return {
        "stage": bound.name,
        "op": bound.op.name,
        # How often a stage repeats decides how many calls there are, not what one of them costs.
        "params": {name: str(v) for name, v in bound.params.items() if name != "steps"},
        "inputs": {n: str(v) for n, v in bound.inputs.items() if not isinstance(v, str)},
        "given": sorted(n for n, v in bound.inputs.items() if isinstance(v, str) and v),
        "latent_space": attrs.astuple(around.latent_space),
        "latent_shape": around.latent_shape,
        "wants_negative": around.wants_negative,
        "model": None if located is None else model_identity(located),
    }


def model_identity(located: LocatedModel) -> dict[str, object]:
    """Say which module it is, with the fields that upstream fills in, and what it is made of."""
    config: Any = located.model.module.config
    fields = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    tensors = [
        f"{segment.name} {t.name} {t.shape} {t.dtype}"
        for segment in located.model.segments.values()
        for t in segment.tensors
    ]
    return {
        "part": located.spec.part,
        "precision": located.model.precision,
        "config": {str(n): str(v) for n, v in fields.items() if not str(n).startswith("_")},
        "tensors": tensors,
    }


def files_identity(checkpoint: Checkpoint) -> list[list[object]]:
    """Say which files the weights are in: names, sizes, and when they were last changed."""
    paths = sorted({entry.path for entry in checkpoint.entries.values()})
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
