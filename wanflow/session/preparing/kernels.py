"""Which kernels a run computes with: chosen right before it, and put back after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from wanflow.errors import InputError
from wanflow.graph import BoundGraph
from wanflow.models.bound import LocatedModel

if TYPE_CHECKING:
    import torch


@contextmanager
def stages_attend(
    graph: BoundGraph, models: Mapping[str, LocatedModel], device: torch.device
) -> Iterator[None]:
    """Have each stage attend as its param says inside; InputError where it can't."""
    from wanflow.models.backends import attending

    chosen: dict[str, str] = {}
    with ExitStack() as stack:
        for stage in graph.stages:
            if "attention" not in stage.params or stage.model is None:
                continue
            name, where = str(stage.params["attention"]), f"stage {stage.name}"
            if chosen.setdefault(stage.model, name) != name:
                raise InputError(
                    f"{where}: attention={name}, and another stage of model {stage.model!r} has "
                    f"attention={chosen[stage.model]}",
                    hint="give both the same",
                    code="attention-backend",
                )
            module = models[stage.model].model.module
            stack.enter_context(attending(module, name, device, where))
        yield


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """On a card, have cuDNN take kernels whose bits don't depend on chance inside.

    It takes the first one whose workspace fits under the cap all the same: where little is free
    that may be another one. cuBLAS gets its workspace before any tensor is there, so that it lies
    at the start of the allocator's memory and no further pages are held for it.
    """
    if device.type != "cuda":
        yield
        return
    import torch
    import torch.nn.functional as F  # noqa: N812

    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        for dtype in (torch.float32, torch.float16):
            one = torch.ones(16, 16, dtype=dtype, device=device)
            F.linear(one, one, one[0])
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
