"""Which rows each part of the decoder takes in each strip. Whole numbers only.

A part is some rows behind the part before it. What is behind comes all at once where the frame
ends: a part takes no more than a strip's rows of it, and the rest in further strips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

Behind = Callable[[str, int], int]


@attrs.frozen
class StripTurn:
    """A part's turn in a strip: rows it takes and makes; whether new ones come; the frame's end.

    Before it the part has `taken` and `made` rows, and `waiting` ones have come too early.
    """

    part: str
    takes: int
    makes: int
    fed: bool
    bottom: bool
    taken: int
    made: int
    waiting: int


@attrs.define
class _PartProgress:
    """How far a part has come in a frame: rows taken and made, of `total` rows at its input."""

    part: str
    total: int
    scale: int
    most: int
    taken: int = 0
    made: int = 0
    arrived: int = 0

    def turn(self, arrived: int, *, fed: bool, behind: Behind) -> StripTurn | None:
        takes = min(arrived - self.taken, self.most)
        if takes == 0 and not fed:
            return None
        taken, waiting, before = self.taken, self.arrived - self.taken, self.made
        self.taken, self.arrived = taken + takes, arrived
        bottom = self.taken == self.total
        self.made = self.scale * self.total if bottom else behind(self.part, self.taken)
        makes = self.made - before
        return StripTurn(self.part, takes, makes, fed, bottom, taken, before, waiting)


def schedule(
    parts: Sequence[tuple[str, int]], behind: Behind, rows: int, height: int
) -> list[list[StripTurn]]:
    """Give every strip's turns: *rows* latent rows of *height* come in each while there are any.

    *parts* are names and how many rows each makes of one; *behind* tells what a part has made of
    a number of rows before the frame's end.
    """
    progress, scale = [], 1
    for part, factor in parts:
        progress.append(_PartProgress(part, scale * height, factor, scale * rows))
        scale *= factor
    strips: list[list[StripTurn]] = []
    while progress[-1].taken < progress[-1].total:
        arrived = min(rows * (len(strips) + 1), height)
        fed, turns = rows * len(strips) < height, []
        for part_progress in progress:
            turn = part_progress.turn(arrived, fed=fed, behind=behind)
            fed, arrived = turn is not None and turn.makes > 0, part_progress.made
            if turn is not None:
                turns.append(turn)
        strips.append(turns)
    return strips
