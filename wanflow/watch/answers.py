"""What the page is told, as plain values: made of the shelf and of the traces that are followed."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import attrs

from wanflow.errors import InputError
from wanflow.files.run_files import TRACE
from wanflow.watch.batch_card import BatchCard, read_rows
from wanflow.watch.followed_trace import FollowedTrace
from wanflow.watch.rank_files import MOST_RANKS
from wanflow.watch.rank_rows import RankRows
from wanflow.watch.readings import Readings
from wanflow.watch.run_card import RunCard, read_inputs
from wanflow.watch.shelf import Shelf, key_of
from wanflow.watch.shown import shown_text

MOST_AT_ONCE = 16  # runs that are followed side by side
MOST_RANKS_AT_ONCE = 64  # ranks of all of them
_NOW_SECONDS = 0.4  # to read of all traces for one answer
_RUN_SECONDS = 0.5


@attrs.frozen
class Answers:
    """Answers of a page over one folder."""

    shelf: Shelf
    readings: Readings
    root: Path

    @property
    def rows(self) -> RankRows:
        """Makes the rows of ranks."""
        return RankRows(self.readings)

    def now(self) -> dict[str, Any]:
        """Say what runs: each with its place, its memory and its curve."""
        self.shelf.refresh()
        running = [run for run in self.shelf.runs() if run.state == "running"]
        shown = running[:MOST_AT_ONCE]
        share = _NOW_SECONDS / max(1, len(shown))
        each = max(1, MOST_RANKS_AT_ONCE // max(1, len(shown)))
        return {
            **self._root(),
            "version": self.shelf.version,
            "full": self.shelf.full,
            "at": time.time(),
            "running": [self._live(run, share, each) for run in shown],
            "running_count": len(running),
            "batches": [b.to_dict() for b in self.shelf.batches() if b.state == "running"],
            "runs_count": sum(1 for run in self.shelf.runs() if not run.batch),
            "batches_count": len(self.shelf.batches()),
        }

    def runs(self, first: int, most: int, state: str) -> dict[str, Any]:
        """List runs that are of no batch, the newest first."""
        self.shelf.refresh()
        runs = [run for run in self.shelf.runs() if not run.batch and state in ("", run.state)]
        cards = [run.to_dict() for run in runs[first : first + most]]
        return {"version": self.shelf.version, "count": len(runs), "runs": cards}

    def batches(self) -> dict[str, Any]:
        """List all batches, the newest first."""
        self.shelf.refresh()
        cards = [batch.to_dict() for batch in self.shelf.batches()]
        return {"version": self.shelf.version, "batches": cards}

    def batch(self, batch: BatchCard, first: int, most: int, status: str) -> dict[str, Any]:
        """Say of a batch, and of some of its rows, what `batch.json` does; with each row's key."""
        with self.shelf.tree.folder(batch.parts) as folder:
            count, rows = read_rows(folder, first, most, status)
        for row in rows:
            name = row.get("folder")
            run = self.shelf.run(key_of((*batch.parts, name))) if isinstance(name, str) else None
            row["run"] = run.to_dict() if run is not None else None
        return {**self._root(), "batch": batch.to_dict(), "count": count, "rows": rows}

    def run(self, run: RunCard, trace: str = TRACE, rank: int = 0) -> dict[str, Any]:
        """Say all that is known of a run, as far as its trace was read by now.

        Sums are those of one *rank*; `ranks` has a row for each of the first of several.
        """
        with self.shelf.tree.folder(run.parts) as folder:
            inputs = read_inputs(folder)
        answer = {
            **self._root(), **run.to_dict(), "inputs": inputs, "traces": run.traces(),
            "trace": trace, "rank": rank, "resume": self._resume(run),
        }  # fmt: skip
        answer |= self._ranks(run, trace, _RUN_SECONDS)
        followed, problem = self._followed(run, trace, rank)
        if followed is None:
            return {**answer, "problem": problem}
        followed.advance(_RUN_SECONDS / (1 + len(answer["ranks"])))
        running = run.state == "running" and trace == TRACE
        return {
            **answer,
            "head": followed.head(running=running),
            "chart": followed.chart(),
            "summary": followed.sums(),
            "problem": "",
        }

    def _ranks(
        self, run: RunCard, trace: str, seconds: float, most: int = MOST_RANKS
    ) -> dict[str, Any]:
        """Say on how many devices a run is, and of several how each of them is."""
        count = self.readings.count(run, trace)
        rows = self.rows.of(run, trace, count, seconds, most) if count > 1 else []
        return {"rank_count": count, "ranks": rows}

    def _root(self) -> dict[str, str]:
        return {"root": shown_text(str(self.root))}

    def _resume(self, run: RunCard) -> str:
        """Give the command that goes on with a run, or with its batch; "" for what is done."""
        if run.state in ("running", "done"):
            return ""
        parts = run.parts[:-1] if run.batch else run.parts
        return shown_text(f"wanflow resume {shlex.quote(str(self.root.joinpath(*parts)))}")

    def _live(self, run: RunCard, seconds: float, most_ranks: int) -> dict[str, Any]:
        answer: dict[str, Any] = {
            **run.to_dict(), **self._ranks(run, TRACE, seconds, most_ranks)
        }  # fmt: skip
        followed, problem = self._followed(run, TRACE)
        if followed is None:
            return {**answer, "head": None, "problem": problem}
        if not answer["ranks"]:  # its first rank has been read on
            followed.advance(seconds)
        return {**answer, "head": followed.head(running=True), "chart": followed.chart()}

    def _followed(self, run: RunCard, name: str, rank: int = 0) -> tuple[FollowedTrace | None, str]:
        """Follow a trace; what is none yet, or none at all, is told."""
        try:
            return self.readings.of(run, name, rank), ""
        except InputError as error:
            return None, shown_text(error.message)
        except OSError as error:
            return None, shown_text(error.strerror or "")
