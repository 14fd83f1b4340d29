"""What decides the cost of a stage's calls: all that its program is made from, as plain data."""

from __future__ import annotations

import attrs

from wanflow.graph import BoundStage
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
    it counts which ones are given.
    """
    return {
        "stage": bound.name,
        "op": bound.op.name,
        # How often a stage repeats decides how many calls there are, not what one of them costs.
        "params": {name: str(v) for name, v in bound.params.items() if name != "steps"},
        "inputs": {
            n: str(v) for n, v in bound.inputs.items() if not isinstance(v, str) and n != "seed"
        },
        "given": sorted(n for n, v in bound.inputs.items() if isinstance(v, str) and v),
        "latent_space": attrs.astuple(space),
        "latent_shape": latent_shape,
        "wants_negative": wants_negative,
        "model": None if located is None else located.identity,
    }
