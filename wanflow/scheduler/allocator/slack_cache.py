"""What the allocator reserves beyond what calls ask for, kept on disk by what was played.

To play the calls of a long footprint through the allocator takes a second. A file for each graph
holds the slack of its footprints. No torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import msgpack

from wanflow.files.cache import Store, digest
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.footprint.lifetimes import Lifetimes


class SlackCache:
    """Slack by the key of a footprint (`played_key`).

    *identity* is plain data: the graph's, the allocator's and the conditions of the profile.
    """

    def __init__(self, folder: Path, identity: object) -> None:
        self._store = Store(folder / f"{digest(identity).hex()}.slack")

    def find(self, key: bytes, calls: int) -> list[int] | None:
        """Give the slack of each of so many calls, or None; the file is read once."""
        packed = self._store.find(key)
        if packed is not None:
            with contextlib.suppress(ValueError, TypeError):
                runs = msgpack.unpackb(packed)
                if sum(count for _, count in runs) == calls:
                    return [nbytes for nbytes, count in runs for _ in range(count)]
        return None

    def add(self, key: bytes, slack: Sequence[int]) -> None:
        """Remember a footprint's slack until `keep`."""
        runs = [(nbytes, len(list(run))) for nbytes, run in itertools.groupby(slack)]
        self._store.add(key, msgpack.packb(runs))

    def keep(self) -> None:
        """Write what was added."""
        self._store.keep()


def played_key(footprint: Footprint, life: Lifetimes) -> bytes:
    """Digest all that an allocator sees of a footprint: requests, what is made, what is freed."""
    numbers: dict[int, int] = {}
    costs, rows = [], []
    for call, freed in zip(footprint.calls, life.frees, strict=True):
        cost = call.cost
        if id(cost) not in numbers:
            numbers[id(cost)] = len(numbers)
            costs.append((cost.workspace_bytes, cost.requests, cost.origins))
        values = [(value.value, value.nbytes) for value in call.makes]
        rows.append((numbers[id(cost)], call.gathered_bytes, values, freed))
    return hashlib.sha256(msgpack.packb([costs, rows])).digest()
