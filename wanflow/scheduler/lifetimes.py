"""How long values live, and what each call needs besides the weights that stay. No torch."""

from __future__ import annotations

import attrs

from wanflow.scheduler.footprint import Footprint


@attrs.frozen
class Lifetimes:
    """Per call: values alive on entry, bytes without any resident weights, values freed after.

    `live_bytes[i]` are the values there when call i starts. `held_bytes[i]` is the call's peak when
    its own segment is there already: values, segment, gathered rows, and the larger of workspace
    and the rows' read staging. `need_bytes[i]` is its peak when the segment is read first, where
    the call before hasn't left it. `frees[i]` are the values whose last reader is call i.
    """

    live_bytes: tuple[int, ...]
    held_bytes: tuple[int, ...]
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
    live, helds, needs, now = [], [], [], 0
    left: tuple[str, str] | None = None
    for step, freed in zip(footprint.steps, frees, strict=True):
        live.append(now)
        weights, staging = 0, 0
        used = None
        if step.segment is not None:
            used = (step.stage, step.segment)
            segment = footprint.segments[step.segment]
            weights, staging = segment.nbytes, segment.staging_bytes if used != left else 0
        running = step.gathered_bytes + max(step.cost.workspace_bytes, step.gather_staging_bytes)
        helds.append(now + weights + running)
        needs.append(now + weights + max(running, staging))
        now += sum(made.nbytes for made in step.makes) - sum(sizes[value] for value in freed)
        left = used
    return Lifetimes(tuple(live), tuple(helds), tuple(needs), tuple(tuple(f) for f in frees))
