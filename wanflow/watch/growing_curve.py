"""Memory over a time whose end nobody knows: so many cells, which double in length when full.

Bounded: cells, not events. In each is the fullest instant of it, so no peak is between two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from wanflow.trace.by_kind import KINDS
from wanflow.trace.cells import NOTHING
from wanflow.trace.levels import Level

CELLS = 480
_FIRST_NS = 2**16


@attrs.define
class GrowingCurve:
    """The levels of one tier. Instants come in order."""

    cells: int = CELLS
    cell_ns: int = _FIRST_NS
    _levels: list[Level] = attrs.field(init=False)
    _now: Level = attrs.field(default=NOTHING, init=False)
    _since_ns: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._levels = [NOTHING]

    def see(self, level: Level) -> None:
        """Take a level that holds from its instant on."""
        self._fill(self._now, self._since_ns, max(level.at_ns, self._since_ns))
        self._now, self._since_ns = level, max(level.at_ns, self._since_ns)
        self._fill(level, self._since_ns, self._since_ns)

    @property
    def ended_ns(self) -> int:
        """Up to when it is known."""
        return self._since_ns

    def to_dict(self, most: int = CELLS) -> dict[str, Any]:
        """Give the bytes of each kind in each cell, *most* of them, the length of one beside.

        Kinds that never come are left out.
        """
        levels, cell_ns = self._levels, self.cell_ns
        while len(levels) > max(most, 1):
            levels, cell_ns = _halved(levels), 2 * cell_ns
        kinds = {kind: [level.by_kind[kind] for level in levels] for kind in KINDS}
        return {
            "cell_seconds": cell_ns / 1e9,
            "resident_bytes": [level.resident_bytes for level in levels],
            "by_kind": {kind: cells for kind, cells in kinds.items() if any(cells)},
        }

    def _fill(self, level: Level, began_ns: int, ended_ns: int) -> None:
        """Put a level into the cells of a time, where there is not a higher one already."""
        while ended_ns >= self.cells * self.cell_ns:
            self._double()
        first, last = began_ns // self.cell_ns, ended_ns // self.cell_ns
        levels = self._levels
        if last >= len(levels):
            levels.extend([NOTHING] * (last + 1 - len(levels)))
        for index in range(first, last + 1):
            if level.resident_bytes > levels[index].resident_bytes:
                levels[index] = level

    def _double(self) -> None:
        self.cell_ns *= 2
        self._levels = _halved(self._levels)


def _halved(levels: Sequence[Level]) -> list[Level]:
    """Make one cell of two, with the fullest instant of both."""
    pairs = [levels[index : index + 2] for index in range(0, len(levels), 2)]
    return [max(pair, key=lambda level: level.resident_bytes) for pair in pairs]
