"""Plan any module, by one forward of it on fake tensors: no graph, no weights, no GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from wanflow.errors import InputError
from wanflow.models.discover import Segmentation, discover
from wanflow.models.segments import DTYPES, cut, dtype_of
from wanflow.scheduler.faked import cpu_like
from wanflow.scheduler.footprint import Footprint
from wanflow.scheduler.laps import Setting
from wanflow.scheduler.outline import Asked, outline
from wanflow.scheduler.plan import Plan
from wanflow.scheduler.planner import plan as plan_footprints
from wanflow.session.places import find_place
from wanflow.session.request import Request


def plan_module(
    module: torch.nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    vram: str = "auto",
    machine: str | None = None,
    precision: str = "bf16",
    repeats: int = 1,
) -> Plan:
    """Plan *repeats* forwards of *module*, such as a diffusers transformer built on `meta`.

    *args* and *kwargs* are the forward's; of their tensors only shapes and dtypes count, so that
    `meta` will do. Segments are found from the module tree, whole or in parts, whatever is faster
    in *vram*. The plan's bytes leave out a card's context. InputError when the course of the
    forward depends on what is in a tensor.
    """
    if precision not in DTYPES:
        raise InputError(
            f"precision {precision!r} is not known",
            hint=f"allowed: {', '.join(DTYPES)}",
            code="bad-precision",
        )
    place = find_place(Request("", vram=vram, machine=machine))
    asked = Asked(tuple(args), dict(kwargs or {}), repeats, place.machine.device)
    footprints = outline_module(module, asked, precision)
    return plan_footprints(footprints, place.machine, place.usable_bytes, {}, place.ram_bytes)


def outline_module(module: torch.nn.Module, asked: Asked, precision: str) -> tuple[Footprint, ...]:
    """Find the segments of *module*, and give its footprint with its blocks whole and in parts."""
    try:
        found = discover(
            module,
            lambda copied: copied(*cpu_like(asked.args), **cpu_like(asked.kwargs)),
            dtype_of=lambda name: dtype_of(module, name, precision),
        )
        parts = cut(module, found.finest, precision)
        return outline(module, parts, asked, _settings(module, found, precision))
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise InputError(
            f"{type(module).__name__}: what its forward does depends on the numbers in a tensor "
            f"({error})",
            hint="leave masks out, or give numbers as ints",
            code="data-dependent",
        ) from None


def _settings(module: torch.nn.Module, found: Segmentation, precision: str) -> list[Setting]:
    """Cut blocks not at all, the plain way, and into their parts where they have any."""
    whole = {p: segment for segment in found.segments for p in found.parts.get(segment, (segment,))}
    ways = {"whole": whole, "parts": {part: part for part in whole}}
    if not found.parts:
        del ways["parts"]
    sizes = {
        name: segment.nbytes
        for name, segment in cut(module, {**found.segments, **found.finest}, precision).items()
    }
    return [Setting({"split": split}, homes, sizes) for split, homes in ways.items()]
