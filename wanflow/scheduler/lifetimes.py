"""How long values live, and what each call needs besides the weights that stay. No torch."""

from __future__ import annotations

import attrs

from wanflow.scheduler.footprint import Footprint


@attrs.frozen
class Lifetimes:
    """Per call: values alive on entry, bytes without any resident weights, values freed after.

    `live_bytes[i]` are the values there when call i starts. `need_bytes[i]` is the call's peak with
    its own segment streamed: values, segment, gathered rows, workspace, and the staging buffer that
    is always there. `frees[i]` are the values whose last reader is call i.
    """

    live_bytes: tuple[int, ...]
    need_bytes: tuple[int, ...]
    frees: tuple[tuple[int, ...], ...]


def lifetimes(footprint: Footprint) -> Lifetimes:
    """Work out the lifetimes of a footprint's values from first write and last read."""
    sizes: dict[int, int] = {}
    last: dict[int, int] = {}
    for index, step in enumerate(footprint.steps):
        for value in step.reads:
            last[value] = index
        for made in step.makes:
            sizes[made.value] = made.nbytes
            last[made.value] = index
    frees: list[list[int]] = [[] for _ in footprint.steps]
    for value, index in last.items():
        if value not in footprint.keeps:
            frees[index].append(value)
    live, needs, now = [], [], footprint.staging_bytes
    for step, freed in zip(footprint.steps, frees, strict=True):
        live.append(now)
        weights = footprint.segments[step.segment].nbytes if step.segment is not None else 0
        needs.append(now + weights + step.gathered_bytes + step.cost.workspace_bytes)
        now += sum(made.nbytes for made in step.makes) - sum(sizes[value] for value in freed)
    return Lifetimes(tuple(live), tuple(needs), tuple(tuple(f) for f in frees))
