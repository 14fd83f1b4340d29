"""The ranks of a run side by side: where each is, its memory, and who waits for whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from wanflow.errors import InputError
from wanflow.files.run_files import TRACE
from wanflow.watch.growing_curve import CELLS
from wanflow.watch.rank_files import MOST_RANKS
from wanflow.watch.readings import Readings
from wanflow.watch.run_card import RunCard
from wanflow.watch.shown import shown_text

_WORTH_A_WORD = 0.05  # of a step: what a rank waited for others in it
_FEWEST_CELLS = 60


@attrs.frozen
class RankRows:
    """Makes the rows of a run's ranks; each is read on for its share of the time."""

    readings: Readings

    def of(
        self, run: RunCard, name: str, count: int, seconds: float, most: int = MOST_RANKS
    ) -> list[dict[str, Any]]:
        """Give a row for each of the first *most* of *count* ranks.

        A rank whose trace can't be read has a `problem`, and no `head` or `chart`.
        """
        shown = min(count, most, MOST_RANKS)
        cells = max(_FEWEST_CELLS, 2 * CELLS // max(shown, 2))
        rows = [self._row(run, name, rank, seconds / max(shown, 1), cells) for rank in range(shown)]
        _say_who_waits(rows)
        return rows

    def _row(
        self, run: RunCard, name: str, rank: int, seconds: float, cells: int
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"rank": rank, "waits_for": None, "waits_seconds": 0.0}
        try:
            followed = self.readings.of(run, name, rank)
        except (InputError, OSError) as error:
            said = error.message if isinstance(error, InputError) else error.strerror
            device = self.readings.device(run, rank)
            return {**row, "device": device, "head": None, "problem": shown_text(said or "")}
        followed.advance(seconds)
        running = run.state == "running" and name == TRACE
        state, status = followed.ending
        return {
            **row,
            "device": followed.device or self.readings.device(run, rank),
            "head": followed.head(running=running),
            "chart": followed.chart(cells),
            "waits": followed.waits(),
            "state": state,
            "status": status,
            "problem": followed.problem if not running else "",
        }


def _say_who_waits(rows: Sequence[dict[str, Any]]) -> None:
    """Say of each rank for how long it waited for others, and for whom in its last step.

    All exchange the same, so the one that stands still the least is who the others wait for. While
    what was written before is still read they are at different places, and nothing is said.
    """
    read = [row for row in rows if row["head"] is not None]
    if len(read) < 2 or any(row["head"]["reading"] for row in read):
        return
    least = min(row["waits"]["exchanging_seconds"] for row in read)
    at_work = [row for row in read if not row["head"]["ended"]]
    for row in read:
        row["waits_seconds"] = row["waits"]["exchanging_seconds"] - least
    for row in at_work:
        waits = row["waits"]
        peers = [each for each in at_work if each["waits"]["last_stage"] == waits["last_stage"]]
        latest = min(peers, key=lambda each: each["waits"]["last_exchanging"])
        over = waits["last_exchanging"] - latest["waits"]["last_exchanging"]
        if over > _WORTH_A_WORD * waits["last_step"]:
            row["waits_for"] = latest["rank"]
