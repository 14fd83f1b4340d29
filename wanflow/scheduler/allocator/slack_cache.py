"""What the allocator reserves beyond what calls ask for, kept on disk by what was played.

To play the calls of a long footprint through the allocator takes a second. A file for each graph
holds the slack of its footprints; like the kinds it may be lost or damaged at any moment. No torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import msgpack

from wanflow.files.cache import FOLDER_BYTES, FOLDER_FILES, prune, read_map, used, write_map
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.footprint.lifetimes import Lifetimes


class SlackCache:
    """Slack by the key of a footprint (`played_key`).

    *identity* is plain data: the graph's, the allocator's and the conditions of the profile.
    """

    def __init__(self, folder: Path, identity: object) -> None:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._path = folder / f"{digest}.slack"
        self._known: dict[bytes, bytes] | None = None
        self._new: dict[bytes, bytes] = {}

    def find(self, key: bytes, calls: int) -> list[int] | None:
        """Give the slack of each of so many calls, or None; the file is read once."""
        if self._known is None:
            self._known = read_map(self._path)
        packed = self._known.get(key)
        if not isinstance(packed, bytes):
            return None
        with contextlib.suppress(ValueError, TypeError):
            runs = msgpack.unpackb(packed)
            if sum(count for _, count in runs) == calls:
                return [nbytes for nbytes, count in runs for _ in range(count)]
        return None

    def add(self, key: bytes, slack: Sequence[int]) -> None:
        """Remember a footprint's slack until `keep`."""
        runs = [(nbytes, len(list(run))) for nbytes, run in itertools.groupby(slack)]
        self._new[key] = msgpack.packb(runs)

    def keep(self) -> None:
        """Write what was added, beside what another process has added since; then tidy up."""
        if not self._new:
            used(self._path)
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_map(self._path, {**read_map(self._path), **self._new})
            prune(self._path.parent, FOLDER_BYTES, FOLDER_FILES)
        self._new.clear()


def played_key(footprint: Footprint, life: Lifetimes) -> bytes:
    """Digest all that an allocator sees of a footprint: requests, what is made, what is freed."""
    numbers: dict[int, int] = {}
    costs, calls = [], []
    for step, freed in zip(footprint.calls, life.frees, strict=True):
        cost = step.cost
        if id(cost) not in numbers:
            numbers[id(cost)] = len(numbers)
            costs.append((cost.workspace_bytes, cost.requests, cost.origins))
        made = [(each.value, each.nbytes) for each in step.makes]
        calls.append((numbers[id(cost)], step.gathered_bytes, made, freed))
    return hashlib.sha256(msgpack.packb([costs, calls])).digest()
