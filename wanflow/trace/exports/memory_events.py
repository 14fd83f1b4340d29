"""`memory_events.json`: allocated and peak bytes at the key points of a run, one object each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import attrs

from wanflow.trace.cells import NOTHING
from wanflow.trace.events import Event, Memory, Note, StageSpan, Step, Workspace
from wanflow.trace.exports.follow import Follower
from wanflow.trace.levels import Level
from wanflow.trace.reader import TraceReader
from wanflow.trace.summary import Summary
from wanflow.trace.turns import TurnLevels

_NS = 1e9
_MOST_STAGES = 4096


def write_memory_events(reader: TraceReader, summary: Summary, out: BinaryIO) -> int:
    """Write the key points on the budget tier as they stream by; return how many."""
    points = _Points(summary.budget_tier or "")
    head = json.dumps(_head(summary))[1:-1]
    out.write(f'{{{head},\n"events": [\n'.encode())
    comma, count = "", 0
    for row in points.rows(reader):
        out.write(f"{comma}{json.dumps(row)}".encode())
        comma = ",\n"
        count += 1
    info = reader.info()
    end = {"state": str(info.state), "problem": info.problem, "status": summary.status}
    out.write(f"\n],\n{json.dumps(end)[1:-1]}}}\n".encode())
    return count


def _head(summary: Summary) -> dict[str, Any]:
    names = (
        "graph", "plan_id", "device", "simulated", "started", "budget_bytes", "budget_tier",
        "overhead_bytes", "over_budget_bytes", "predicted_peak_bytes", "measured_peak_bytes",
        "measured_source", "seconds",
    )  # fmt: skip
    facts = {name: getattr(summary, name) for name in names}
    return {"format": "wanflow-memory-events", "version": 1, **facts}


@attrs.define
class _Points:
    """Follows one tier. `peak_bytes` is the most it has held so far."""

    tier: str
    _follower: Follower = attrs.field(factory=Follower, init=False)
    _now: Level = attrs.field(default=NOTHING, init=False)
    _peak_bytes: int = attrs.field(default=0, init=False)
    _last_ns: int = attrs.field(default=0, init=False)
    _turns: TurnLevels = attrs.field(init=False)
    _step_peaks: dict[str, int] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._turns = TurnLevels(self.tier)

    def rows(self, events: TraceReader) -> Iterator[dict[str, Any]]:
        """Yield a row for each key point, in the order of the trace."""
        yield self._row("start", 0)
        for event in events:
            yield from self._started(event)
            changes = [change.level for change in self._follower.see(event)]
            for level in changes:
                self._follow(level)
            for level in self._turns.see(event, changes):
                if level.stage in self._step_peaks:
                    most = self._step_peaks[level.stage]
                    self._step_peaks[level.stage] = max(most, level.resident_bytes)
            yield from self._ended(event)
        yield self._row("end", self._last_ns)

    def _follow(self, level: Level) -> None:
        if level.tier != self.tier:
            return
        self._now = level
        self._peak_bytes = max(self._peak_bytes, level.resident_bytes)

    def _started(self, event: Event) -> Iterator[dict[str, Any]]:
        """A stage starts where its first call does."""
        peaks = self._step_peaks
        if isinstance(event, Workspace) and event.stage not in peaks and len(peaks) < _MOST_STAGES:
            peaks[event.stage] = 0
            yield self._row("stage_start", event.began_ns, stage=event.stage)

    def _ended(self, event: Event) -> Iterator[dict[str, Any]]:
        match event:
            case Step():
                peak = self._step_peaks.get(event.stage, 0)
                self._step_peaks[event.stage] = 0
                more: dict[str, object] = {
                    "step": event.index,
                    "steps": event.total,
                    "step_peak_bytes": peak,
                }
                if event.measured_peak_bytes:
                    more["measured_peak_bytes"] = event.measured_peak_bytes
                yield self._row("step_end", event.ended_ns, stage=event.stage, **more)
            case StageSpan():
                more = {"op": event.op, "stage_peak_bytes": event.peak_bytes}
                more |= {"seconds": (event.ended_ns - event.began_ns) / _NS}
                yield self._row("stage_end", event.ended_ns, stage=event.stage, **more)
            case Memory():
                more = {"source": event.source, "tier": event.tier}
                more |= {"measured_bytes": event.now_bytes, "measured_peak_bytes": event.peak_bytes}
                yield self._row("measured", event.at_ns, **more)
            case Note():
                yield self._row("note", event.at_ns, topic=event.topic, text=event.text)

    def _row(self, what: str, at_ns: int, **more: object) -> dict[str, Any]:
        self._last_ns = max(self._last_ns, at_ns)
        now, by_kind = self._now, self._now.by_kind
        return {
            "event": what,
            "at_seconds": self._last_ns / _NS,
            **more,
            "allocated_bytes": now.resident_bytes,
            "peak_bytes": self._peak_bytes,
            **{f"{kind}_bytes": by_kind[kind] for kind in ("weights", "state", "value")},
        }
