"""What was profiled before of a graph: planned again without fake tensors, and without PyTorch.

Without weights no model is built either. With weights on disk the lengths of the prompts decide the
calls as well.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import msgpack

from wanflow.files.cache import Store, digest, plain
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.footprint.rows import rows_of
from wanflow.scheduler.footprint.rows_reader import FootprintReader, RowError
from wanflow.scheduler.knobs import Knob, ProgramOutline

_OUTLINES = b"outlines"


@attrs.frozen
class KeptProfile:
    """Outlines and footprints of one graph on one kind of device. May be lost at any moment."""

    store: Store

    @classmethod
    def in_folder(cls, folder: Path, identity: object) -> KeptProfile:
        """Open it; *identity* is plain data: all that decides them but knobs and steps."""
        return cls(Store(folder / f"{digest(identity).hex()}.profile"))

    def outlines(self) -> tuple[ProgramOutline, ...] | None:
        """Give the outlines of all programs, in order."""
        packed = self.store.find(_OUTLINES)
        try:
            return None if packed is None else tuple(map(_outline, plain(packed)))
        except (ValueError, TypeError):
            return None

    def add_outlines(self, outlines: Sequence[ProgramOutline]) -> None:
        """Remember them until `store.keep`."""
        rows = [attrs.asdict(outline) for outline in outlines]
        self.store.add(_OUTLINES, msgpack.packb(rows))

    def choice(self, key: object) -> list[dict[str, dict[str, str]]] | None:
        """Give the knob settings that were chosen under *key*, plain data."""
        packed = self.store.find(digest(["choice", key]))
        try:
            return None if packed is None else [*plain(packed)]
        except (ValueError, TypeError):
            return None

    def add_choice(self, key: object, chosen: Sequence[Mapping[str, Mapping[str, str]]]) -> None:
        """Remember it until `store.keep`."""
        plainly = [{stage: dict(knobs) for stage, knobs in one.items()} for one in chosen]
        self.store.add(digest(["choice", key]), msgpack.packb(plainly))

    def footprint(self, key: object) -> Footprint | None:
        """Give the footprint under *key*, plain data, as it was charged by the allocator."""
        packed = self.store.find(digest(key))
        if packed is None:
            return None
        reader = FootprintReader()
        try:
            for section, text in plain(zlib.decompress(packed)):
                reader.take(section, text)
        except (ValueError, TypeError, zlib.error, RowError):
            return None
        return reader.footprint

    def add_footprint(self, key: object, footprint: Footprint) -> None:
        """Remember it until `store.keep`."""
        self.store.add(digest(key), zlib.compress(msgpack.packb([*rows_of(footprint)]), 1))


def _outline(row: dict[str, object]) -> ProgramOutline:
    knobs = tuple(Knob(**knob) for knob in row.pop("knobs"))  # type: ignore[attr-defined]
    return ProgramOutline(**row, knobs=knobs)  # type: ignore[arg-type]
