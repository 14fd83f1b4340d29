"""Bytes by kind: what a tier's bytes are made of, in one record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import attrs

from wanflow.trace.events import Kind


@attrs.frozen
class ByKind:
    """Bytes of each kind. `slack_bytes` are the allocator's own, no part of `workspace_bytes`.

    `other_bytes` is what no event explains; below zero, events name more than is there.
    """

    weights_bytes: int = 0
    value_bytes: int = 0
    state_bytes: int = 0
    workspace_bytes: int = 0
    slack_bytes: int = 0
    other_bytes: int = 0

    @classmethod
    def of(cls, resident_bytes: int, held: Mapping[Kind, int], slack_bytes: int = 0) -> Self:
        """Take *resident_bytes* apart: *held* with the slack in its workspace, and the rest."""
        return cls(
            held[Kind.WEIGHTS], held[Kind.VALUE], held[Kind.STATE],
            held[Kind.WORKSPACE] - slack_bytes, slack_bytes, resident_bytes - sum(held.values()),
        )  # fmt: skip

    def __getitem__(self, kind: str) -> int:
        """Give the bytes of one of `KINDS`."""
        nbytes: int = getattr(self, f"{kind}_bytes")
        return nbytes

    def words(self) -> dict[str, int]:
        """Give the kinds that are there as they are written for people."""
        return {word: self[kind] for kind, word in WORDS.items() if self[kind]}


WORDS = {
    "weights": "weights",
    "value": "values",
    "state": "states",
    "workspace": "workspace",
    "slack": "allocator slack",
    "other": "other",
}
KINDS = tuple(WORDS)
