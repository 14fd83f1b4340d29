"""What a kind of call costs, as plain data, and the store it is looked up in. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs

from wanflow.scheduler.footprint.costs import Cost


@attrs.frozen
class Layout:
    """How a tensor lies in its storage: `shape`, `stride` and `offset` in elements."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: str  # `bfloat16`
    storage_bytes: int


@attrs.frozen
class CallCost:
    """What a kind of call costs, makes and passes on by a new name (new name to input's name)."""

    cost: Cost
    by_dtype: Mapping[str, float]  # FLOPs
    makes: Mapping[str, Layout]
    renames: Mapping[str, str]


class CallKindStore(Protocol):
    """Kinds of calls that were measured before. `key` is a tuple whose repr says everything."""

    def find(self, stage: str, key: tuple[object, ...]) -> CallCost | None:
        """Look up what a kind of call of *stage* costs."""

    def add(self, stage: str, key: tuple[object, ...], cost: CallCost) -> None:
        """Remember what a kind of call was measured to cost."""
