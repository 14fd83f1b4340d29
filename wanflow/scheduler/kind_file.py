"""Kinds of calls in a file: a magic line, a digest of the rest, a msgpack map of packed kinds.

Whatever is not as it was written reads as nothing: the kinds are measured anew. No torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import msgpack

from wanflow.scheduler import cache_files
from wanflow.scheduler.footprint import Cost
from wanflow.scheduler.kinds import Kind, Layout

LARGEST_BYTES = 8 * 2**20
MAGIC = b"wanflow kinds 1\n"


def pack(kind: Kind) -> bytes:
    """Turn a kind into bytes."""
    makes = {name: attrs.astuple(layout) for name, layout in kind.makes.items()}
    packed = [attrs.asdict(kind.cost), dict(kind.by_dtype), makes, dict(kind.renames)]
    return bytes(msgpack.packb(packed))


def unpack(packed: bytes) -> Kind | None:
    """Turn bytes into the kind they were, or None."""
    try:
        cost, by_dtype, makes, renames = _plain(packed)
        layouts = {name: Layout(*fields) for name, fields in makes.items()}
        return Kind(Cost(**cost), by_dtype, layouts, renames)
    except (ValueError, TypeError, AttributeError):
        return None


def _plain(packed: bytes) -> Any:
    return msgpack.unpackb(packed, use_list=False, strict_map_key=False)


def read(path: Path) -> dict[bytes, bytes]:
    """Read the packed kinds of a file by their keys; none where there is no such file or worse."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError:
        return {}
    body = None if len(content) > LARGEST_BYTES else cache_files.body_of(content, MAGIC)
    if body is None:
        return {}
    with contextlib.suppress(ValueError):
        found = _plain(body)
        if isinstance(found, dict):
            return found
    return {}


def write(path: Path, kinds: Mapping[bytes, bytes]) -> None:
    """Let *path* hold these kinds: another process sees the old file or the new one; OSError."""
    cache_files.write(path, MAGIC, msgpack.packb(dict(kinds)))
