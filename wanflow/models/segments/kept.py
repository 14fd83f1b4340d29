"""Segmentations on disk: finding them takes a forward on fake tensors, and the compiler's import.

May be lost at any moment: they are then found again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgpack
import torch

from wanflow.files.cache import Store, digest, plain
from wanflow.models.segments.discover import Segmentation

_KEY = b"segments"


def kept_segmentation(
    folder: Path, identity: object, module: torch.nn.Module, find: Callable[[], Segmentation]
) -> Segmentation:
    """Read the segmentation that *identity*, plain data, decides, or find and keep it."""
    store = Store(folder / f"{digest(identity).hex()}.segments")
    packed = store.find(_KEY)
    kept = None if packed is None else _read(packed, module)
    if kept is None:
        kept = find()
        store.add(_KEY, msgpack.packb([dict(kept.segments), {**kept.parts}]))
        store.keep()
    return kept


def _read(packed: bytes, module: torch.nn.Module) -> Segmentation | None:
    """Unpack it; None where it is none of this module's."""
    try:
        segments, parts = plain(packed)
        found = Segmentation(_groups(segments), {str(n): _groups(p) for n, p in parts.items()})
    except (ValueError, TypeError, AttributeError):
        return None
    known = {name for name, _ in module.named_parameters()}
    named = {name for names in found.finest.values() for name in names}
    return found if named and named <= known else None


def _groups(groups: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {str(name): tuple(names) for name, names in groups.items()}
