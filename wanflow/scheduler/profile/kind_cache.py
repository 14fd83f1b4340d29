"""What kinds of calls were measured to cost, on disk: a file for each stage and what decides it.

A cache may be lost, damaged or out of reach at any moment and nobody is told: kinds are then
measured anew. No torch.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

import attrs
import msgpack

from wanflow.files.cache import Store, digest, plain
from wanflow.files.folders import cache_folder
from wanflow.scheduler.footprint.call_kinds import CallCost, Layout
from wanflow.scheduler.footprint.costs import Cost


def folder() -> Path:
    """Give the folder of the footprint cache."""
    return cache_folder() / "footprints"


class CallKindCache:
    """A `CallKindStore` in a folder.

    *identities* has, for each stage, plain data that decides what its calls cost besides their
    keys; *conditions* is the same for all of them (`cache_key.py`).
    """

    def __init__(
        self, path: Path, identities: Mapping[str, object], conditions: Mapping[str, object]
    ) -> None:
        self._stores = {
            stage: Store(path / f"{digest([identity, conditions]).hex()}.bin")
            for stage, identity in identities.items()
        }

    def find(self, stage: str, key: tuple[object, ...]) -> CallCost | None:
        """Look a kind of call up; the file of its stage is read once."""
        packed = self._stores[stage].find(_digest(key))
        return None if packed is None else unpack(packed)

    def add(self, stage: str, key: tuple[object, ...], cost: CallCost) -> None:
        """Remember a kind of call until `keep`."""
        # FLOPs past 64 bits can't be written: the kind is measured anew each time.
        with contextlib.suppress(OverflowError):
            self._stores[stage].add(_digest(key), pack(cost))

    def keep(self) -> None:
        """Write what was added."""
        for store in self._stores.values():
            store.keep()


def pack(kind: CallCost) -> bytes:
    """Turn what a kind of call costs into bytes."""
    makes = {name: attrs.astuple(layout) for name, layout in kind.makes.items()}
    fields = [attrs.asdict(kind.cost), dict(kind.by_dtype), makes, dict(kind.renames)]
    return bytes(msgpack.packb(fields))


def unpack(packed: bytes) -> CallCost | None:
    """Turn bytes into what they were, or None."""
    try:
        cost, by_dtype, makes, renames = plain(packed)
        layouts = {name: Layout(*fields) for name, fields in makes.items()}
        return CallCost(Cost(**cost), by_dtype, layouts, renames)
    except (ValueError, TypeError, AttributeError):
        return None


def _digest(key: tuple[object, ...]) -> bytes:
    return hashlib.sha256(repr(key).encode()).digest()
