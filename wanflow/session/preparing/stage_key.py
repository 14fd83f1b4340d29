"""What decides the cost of a stage's calls: all that its program is made from, as plain data."""

from __future__ import annotations

import attrs

from wanflow.graph import BoundStage, PortType
from wanflow.graph.values import parse_paths
from wanflow.models.bound import LocatedModel
from wanflow.stages.base import LatentSpace


def stage_identity(
    bound: BoundStage,
    space: LatentSpace,
    latent_shape: tuple[int, ...],
    located: LocatedModel | None,
    *,
    wants_negative: bool,
) -> dict[str, object]:
    """Give the identity of a stage.

    Text is left out: it reaches tensors only through a call that stands in for what is outside of
    them, and from there on by the shape of its ids, which every call is looked up by. Of pictures
    it counts which ones are given, and how many by a port that takes several.
    """
    return {
        "stage": bound.name,
        "op": bound.op.name,
        # How often a stage repeats decides how many calls there are, not what one of them costs.
        "params": {name: str(v) for name, v in bound.params.items() if name != "steps"},
        "inputs": {
            n: str(v) for n, v in bound.inputs.items() if not isinstance(v, str) and n != "seed"
        },
        "given": sorted(
            [port, _how_many(bound, port, value)]
            for port, value in bound.inputs.items()
            if isinstance(value, str) and value
        ),
        "latent_space": attrs.astuple(space),
        "latent_shape": latent_shape,
        "wants_negative": wants_negative,
        "model": None if located is None else located.identity,
    }


def _how_many(bound: BoundStage, port: str, value: str) -> int:
    several = bound.op.inputs[port].type is PortType.IMAGES
    return len(parse_paths(value)) if several else 1
