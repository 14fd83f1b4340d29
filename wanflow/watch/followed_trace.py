"""A trace read as it grows, for some time at each call: where its run is, its memory, its sums."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from wanflow.trace.cells import Window, WorkTimes
from wanflow.trace.events import Event, FootprintRows, Move, Step, Workspace
from wanflow.trace.exports.curve import runs_of
from wanflow.trace.exports.follow import MOST_TIERS, Follower
from wanflow.trace.plain import count_in, text_in
from wanflow.trace.reader import TraceFile, TraceReader
from wanflow.trace.stage_progress import StageProgress, seconds_of
from wanflow.trace.summary import Running, Summary
from wanflow.watch.growing_curve import CELLS, GrowingCurve
from wanflow.watch.planned import MOST_STAGES
from wanflow.watch.shown import shown, shown_text
from wanflow.watch.tree import path_of

_AT_ONCE = 256  # events between two looks at the clock
_STAGE_FIELDS = (
    "stage", "op", "state", "seconds", "share", "compute_seconds", "waited_seconds",
    "exchanging_seconds", "moved_in_bytes", "moves", "whole_peak_bytes", "steps", "steps_total",
)  # fmt: skip


@attrs.define
class FollowedTrace:
    """One trace, or one rank of it: opened once and closed where it ends; its name may go away.

    *stages* are those of the plan, as `planned_stages` gives them. InputError for what is no trace.
    """

    reader: TraceReader
    stages: Sequence[Mapping[str, Any]]
    reading: bool = attrs.field(default=True, init=False)  # there is more, written already
    state: StageProgress = attrs.field(factory=StageProgress, init=False)
    _running: Running = attrs.field(factory=Running, init=False)
    _curve: GrowingCurve = attrs.field(factory=GrowingCurve, init=False)
    _work: WorkTimes = attrs.field(factory=WorkTimes, init=False)
    _levels: Follower = attrs.field(factory=Follower, init=False)
    _events: Iterator[Event] | None = attrs.field(default=None, init=False)
    _began_ns: int = attrs.field(factory=time.time_ns, init=False)
    _begun: bool = attrs.field(default=False, init=False)
    _names: dict[str, set[str]] = attrs.field(factory=dict, init=False)
    _tier: str = attrs.field(default="", init=False)
    _last_step: Step | None = attrs.field(default=None, init=False)
    _file: TraceFile = attrs.field(init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @classmethod
    def of(cls, handle: int, stages: Sequence[Mapping[str, Any]], rank: int = 0) -> FollowedTrace:
        """Follow a *rank* of an open file, which is opened again and may be closed."""
        return cls(TraceReader(path_of(handle), rank), stages)

    def __attrs_post_init__(self) -> None:
        header = self.reader.header
        self.state.budget_bytes = count_in(header, "budget_bytes") or 0
        self.state.overhead_bytes = count_in(header, "overhead_bytes") or 0
        self.state.planned_bytes = count_in(header, "predicted_peak_bytes") or 0
        self.state.predicted = {row["stage"]: row["seconds"] for row in self.stages}
        self._tier = text_in(header, "budget_tier") or text_in(header, "device") or ""
        self._file = self.reader.info()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._events = None
            self.reader.close()

    def advance(self, seconds: float) -> None:
        """Read on, for so long at most; what a run writes later is read by a later call."""
        with self._lock:
            if self.reader.closed:
                return
            self.reading = self._read_until(time.monotonic() + seconds)
            self._file = self.reader.info()
            # What is read was written by then, and most of it at once: so the run began.
            self._began_ns = min(
                self._began_ns, self.reader.changed_ns - self._running.tally.last_ns
            )
            if not self.reading and self._file.trailer is not None:
                self.reader.close()

    def _read_until(self, until: float) -> bool:
        """Read on; False where all that is there was read."""
        if self._events is None:
            if self._begun and not self.reader.grown():
                return False
            self._events, self._begun = iter(self.reader), True
        while time.monotonic() < until:
            for _ in range(_AT_ONCE):
                event = next(self._events, None)
                if event is None:
                    self._events = None
                    return False
                self._see(event)
        return True

    def _see(self, event: Event) -> None:
        if isinstance(event, FootprintRows) or self._is_one_too_many(event):
            return
        self.state.see(event)
        self._running.add(event)
        self._work.see(event)
        if isinstance(event, Step):
            self._last_step = event
        if isinstance(event, Move | Workspace):
            self._tier = self._tier or (event.tier if event.tier != "host" else "")
            for change in self._levels.see(event):
                if change.level.tier == self._tier:
                    self._curve.see(change.level)

    def _is_one_too_many(self, event: Event) -> bool:
        """Whether it is of a stage or a tier past those that are kept apart."""
        limits = {"stage": MOST_STAGES, "tier": MOST_TIERS, "source": MOST_TIERS}
        for field, most in limits.items():
            name = getattr(event, field, None)
            known = self._names.setdefault(field, set())
            if name is not None and name not in known:
                if len(known) >= most:
                    return True
                known.add(name)
        return False

    def head(self, *, running: bool) -> dict[str, Any]:
        """Say where the run is: stage, step, time left, memory now; a few hundred bytes."""
        with self._lock:
            state, turn = self.state, self.state.turn()
            elapsed = self._elapsed(running=running)
            return {
                "reading": self.reading,
                "read_share": self._read_share(),
                "stage": shown_text(state.stage),
                "step": turn.done,
                "steps": turn.total,
                "step_seconds": turn.seconds,
                "elapsed_seconds": elapsed,
                "left_seconds": state.left_seconds(round(elapsed * 1e9)) if running else 0.0,
                "stages_done": len(state.ended),
                "now_bytes": state.now_bytes,
                "peak_bytes": state.peak_bytes,
                "budget_bytes": state.budget_bytes,
                "planned_bytes": state.planned_bytes,
                "overhead_bytes": state.overhead_bytes,
                "ended": self._file.trailer is not None,
            }

    def chart(self, cells: int = CELLS) -> dict[str, Any]:
        """Give memory over time, the stages at work, and what was planned of each."""
        with self._lock:
            curve = self._curve.to_dict(cells)
            count = len(curve["resident_bytes"])
            window = Window(0, round(count * curve["cell_seconds"] * 1e9), count)
            runs = runs_of(self._work.names(window))
            planned = {row["stage"]: row["peak_bytes"] for row in self.stages}
            curve["stages"] = [
                {"stage": shown_text(name), "first": first, "end": end,
                 "planned_bytes": planned.get(name, 0)}
                for name, first, end in runs
            ]  # fmt: skip
            return {**curve, "tier": shown_text(self._tier)}

    def sums(self) -> dict[str, Any]:
        """Give the summary of the trace so far, as far as the page shows it."""
        with self._lock:
            summary = self._running.so_far(self._file)
        planned = {row["stage"]: row for row in self.stages}
        return shown_summary(summary, planned)

    @property
    def device(self) -> str:
        """On which device it ran, by its header; "" where that doesn't say."""
        return shown_text(text_in(self.reader.header, "device"), 40)

    @property
    def problem(self) -> str:
        """What is wrong with the file, as far as it was read; "" for one that is whole."""
        return "" if self.reading else shown_text(self._file.problem)

    @property
    def ending(self) -> tuple[str, str]:
        """How the file ends, `whole`, `cut` or `damaged`; and how its run said that it ended."""
        return str(self._file.state), shown_text(text_in(self._file.trailer or {}, "status"), 40)

    @property
    def ranks(self) -> int:
        """On how many devices its run was, by its header."""
        return self.reader.ranks

    def waits(self) -> dict[str, Any]:
        """Say for how many seconds its calls stood still: for weights, and to exchange.

        `last_exchanging` and `last_step` are those of the last step that ended, of `last_stage`.
        """
        with self._lock:
            stages = self._running.tally.stages.values()
            step = self._last_step
            return {
                "waited_seconds": sum(stage.sums.waited_ns for stage in stages) / 1e9,
                "exchanging_seconds": sum(stage.exchanging_ns for stage in stages) / 1e9,
                "last_exchanging": step.exchanging_ns / 1e9 if step is not None else 0.0,
                "last_step": seconds_of(step) if step is not None else 0.0,
                "last_stage": shown_text(step.stage) if step is not None else "",
            }

    def _elapsed(self, *, running: bool) -> float:
        """Say how long the run takes: by the clock while it goes on, then by its last event."""
        last_ns = self._running.tally.last_ns
        return (max(last_ns, time.time_ns() - self._began_ns) if running else last_ns) / 1e9

    def _read_share(self) -> float:
        size = self._file.file_bytes
        return 1.0 if not self.reading or not size else 1 - self._file.lost_bytes / size


def shown_summary(summary: Summary, planned: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Take of a summary what a page shows; *planned* is what was predicted by stage."""
    stages = [
        {
            **{name: getattr(row, name) for name in _STAGE_FIELDS},
            "knobs": list(row.knobs),
            "planned_seconds": planned.get(row.stage, {}).get("seconds"),
            "planned_peak_bytes": planned.get(row.stage, {}).get("peak_bytes"),
        }
        for row in summary.stages[: MOST_STAGES + 1]
    ]
    names = (
        "state", "status", "problem", "started", "device", "simulated", "budget_bytes",
        "overhead_bytes", "over_budget_bytes", "predicted_peak_bytes", "whole_peak_bytes",
        "measured_peak_bytes", "measured_source", "predicted_seconds", "seconds", "events",
        "file_bytes", "lost_bytes", "note_count",
    )  # fmt: skip
    notes = [attrs.asdict(note) for note in summary.notes]
    told = {name: getattr(summary, name) for name in names}
    fields: dict[str, Any] = shown({**told, "stages": stages, "notes": notes})
    return fields


def stamp_of(handle: int) -> tuple[int, int, int]:
    """Tell whether a file is the same, at its length: device, inode, bytes."""
    there = os.fstat(handle)
    return there.st_dev, there.st_ino, there.st_size
