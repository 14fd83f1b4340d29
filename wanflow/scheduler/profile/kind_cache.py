"""The store of measured kinds on disk: a file for each stage and all that decides its costs.

A cache may be lost, damaged or out of reach at any moment and nobody is told: kinds are then
measured anew. Two processes may add to a file at once: one of them measures again next time.
No torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import attrs
import msgpack

from wanflow.files.cache import FOLDER_BYTES, FOLDER_FILES, plain, prune, read_map, used, write_map
from wanflow.files.folders import cache_folder
from wanflow.scheduler.footprint.call_kinds import CallCost, Layout
from wanflow.scheduler.footprint.costs import Cost


def folder() -> Path:
    """Give the folder of the footprint cache; RuntimeError without a home directory."""
    return cache_folder() / "footprints"


class KindCache:
    """A `KindStore` in a folder.

    *identities* has, for each stage, plain data that decides what its calls cost besides their
    keys; *conditions* is the same for all of them (`conditions.py`).
    """

    def __init__(
        self, path: Path, identities: Mapping[str, object], conditions: Mapping[str, object]
    ) -> None:
        self._folder = path
        self._paths = {
            stage: path / f"{_digest(json.dumps([identity, conditions], sort_keys=True)).hex()}.bin"
            for stage, identity in identities.items()
        }
        self._known: dict[str, dict[bytes, bytes]] = {}
        self._new: dict[str, dict[bytes, bytes]] = {}

    def find(self, stage: str, key: tuple[object, ...]) -> CallCost | None:
        """Look a kind up; the file of its stage is read once."""
        if stage not in self._known:
            self._known[stage] = read_map(self._paths[stage])
        packed = self._known[stage].get(_digest(repr(key)))
        return None if packed is None else unpack(packed)

    def add(self, stage: str, key: tuple[object, ...], kind: CallCost) -> None:
        """Remember a kind until `keep`."""
        # FLOPs past 64 bits can't be written: the kind is measured anew each time.
        with contextlib.suppress(OverflowError):
            self._new.setdefault(stage, {})[_digest(repr(key))] = pack(kind)

    def keep(self) -> None:
        """Write what was added, beside what another process has added since; then tidy up."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            for stage, new in self._new.items():
                path = self._paths[stage]
                write_map(path, {**read_map(path), **new})
            if self._new:
                prune(self._folder, FOLDER_BYTES, FOLDER_FILES)
        for stage in self._known.keys() - self._new.keys():
            used(self._paths[stage])
        self._new.clear()


def pack(kind: CallCost) -> bytes:
    """Turn a kind into bytes."""
    makes = {name: attrs.astuple(layout) for name, layout in kind.makes.items()}
    packed = [attrs.asdict(kind.cost), dict(kind.by_dtype), makes, dict(kind.renames)]
    return bytes(msgpack.packb(packed))


def unpack(packed: bytes) -> CallCost | None:
    """Turn bytes into the kind they were, or None."""
    try:
        cost, by_dtype, makes, renames = plain(packed)
        layouts = {name: Layout(*fields) for name, fields in makes.items()}
        return CallCost(Cost(**cost), by_dtype, layouts, renames)
    except (ValueError, TypeError, AttributeError):
        return None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
