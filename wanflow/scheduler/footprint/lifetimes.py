"""How long values live, and what each call needs besides the weights that stay. No torch."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Protocol

import attrs

from wanflow.scheduler.footprint.costs import Footprint


class Absence(Protocol):
    """A value that is not there: after call `leaves`, back for call `comes`."""

    @property
    def nbytes(self) -> int:
        """Its bytes."""

    @property
    def leaves(self) -> int:
        """The last call that it is there for."""

    @property
    def comes(self) -> int:
        """The next call that reads it."""


@attrs.frozen
class Lifetimes:
    """Per call: values alive on entry, bytes without any resident weights, values freed after.

    `live_bytes[i]` are the values there when call i starts. `need_bytes[i]` is the call's peak with
    its own segment streamed: values, segment, gathered rows, workspace, slack, and the staging
    buffer, which is always there, where the device is the RAM. `frees[i]` are the values whose last
    reader is call i.
    """

    live_bytes: tuple[int, ...]
    need_bytes: tuple[int, ...]
    frees: tuple[tuple[int, ...], ...]

    def without(self, away: Sequence[Absence]) -> Lifetimes:
        """The same where values are not on the device through the gaps *away*."""
        if not away:
            return self
        changes = [0] * (len(self.live_bytes) + 1)
        for gap in away:
            changes[gap.leaves + 1] -= gap.nbytes
            changes[gap.comes] += gap.nbytes
        levels = [*itertools.accumulate(changes[:-1])]
        live, need = (
            tuple(map(operator.add, each, levels)) for each in (self.live_bytes, self.need_bytes)
        )
        return Lifetimes(live, need, self.frees)


def lifetimes(footprint: Footprint, staging_bytes: int = 0) -> Lifetimes:
    """Work out the lifetimes of a footprint's values from first write and last read.

    *staging_bytes* lie there all along.
    """
    sizes: dict[int, int] = {}
    last: dict[int, int] = {}
    for index, call in enumerate(footprint.calls):
        for number in call.reads:
            last[number] = index
        for value in call.makes:
            sizes[value.value] = value.nbytes
            last[value.value] = index
    frees: list[list[int]] = [[] for _ in footprint.calls]
    for number, index in last.items():
        if number not in footprint.keeps:
            frees[index].append(number)
    weights: dict[str | None, int] = {name: use.nbytes for name, use in footprint.segments.items()}
    weights[None] = 0
    live, needs, now = [], [], staging_bytes
    for call, freed in zip(footprint.calls, frees, strict=True):
        live.append(now)
        cost = call.cost
        running = cost.workspace_bytes + cost.slack_bytes
        needs.append(now + weights[call.segment] + call.gathered_bytes + running)
        for value in call.makes:
            now += value.nbytes
        for number in freed:
            now -= sizes[number]
    return Lifetimes(tuple(live), tuple(needs), tuple(tuple(f) for f in frees))
