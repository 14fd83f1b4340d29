"""Chrome's Trace Event Format, for ui.perfetto.dev: memory, the three queues, what used what."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import attrs

from wanflow.terminal.safe import printable
from wanflow.trace.events import (
    Event,
    Memory,
    Move,
    Note,
    Preview,
    StageSpan,
    Step,
    Transfer,
    Verb,
    Workspace,
)
from wanflow.trace.exports.follow import Follower, LevelChange
from wanflow.trace.exports.tracks import Tracks
from wanflow.trace.reader import TraceReader

_COUNTERS = {  # of a kind of bytes, in this order on the screen
    "weights": "weights", "states": "state", "values": "value", "workspace": "workspace",
    "slack": "slack",
}  # fmt: skip
_MOST_WAITING = 1024  # uploads that no call has used yet
_ALWAYS = ("stages", "steps", "compute", "copy", "disk")  # in this order on the screen


def write_perfetto(reader: TraceReader, out: BinaryIO) -> int:
    """Write the events as they stream by; return how many the file has."""
    out.write(b'{"displayTimeUnit": "ms",\n"traceEvents": [\n')
    tracks = Tracks(out)
    graph = printable(str(reader.header.get("graph") or "wanflow"))
    tracks.emit(ph="M", name="process_name", args={"name": graph})
    drawing = _Drawing(tracks)
    for event in reader:
        drawing.add(event)
    info = reader.info()
    header = {k: v for k, v in reader.header.items() if k not in ("fields", "crc32")}
    about = {**header, "state": str(info.state), "problem": info.problem}
    out.write(f'\n],\n"otherData": {json.dumps(about)}}}\n'.encode())
    return tracks.count


@attrs.frozen
class _Upload:
    """A slice that a call of this stage and step will use."""

    stage: str
    step: int
    tid: int
    at_ns: int


@attrs.define
class _Drawing:
    tracks: Tracks
    _follower: Follower = attrs.field(factory=Follower, init=False)
    _waiting: list[_Upload] = attrs.field(factory=list, init=False)
    _arrows: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        for queue in _ALWAYS:
            self.tracks.open(queue)

    def add(self, event: Event) -> None:
        """Draw *event*."""
        for change in self._follower.see(event):
            self._change(change)
        match event:
            case Move():
                self._move(event)
            case Transfer():
                self._transfer(event)
            case Workspace():
                self._call(event)
            case Step():
                name = f"{event.stage} {event.index + 1} of {event.total}"
                resident, measured = event.resident_bytes, event.measured_peak_bytes
                args: dict[str, Any] = {"resident_bytes": resident, "measured_peak_bytes": measured}
                self._slice("steps", name, event, args)
            case StageSpan():
                knobs = ", ".join(map(printable, event.knobs))
                args = {"op": printable(event.op), "peak_bytes": event.peak_bytes, "knobs": knobs}
                self._slice("stages", event.stage, event, args)
            case Memory():
                name = f"memory {event.tier} by {event.source}"
                counts = {"now": event.now_bytes, "peak": event.peak_bytes}
                self.tracks.counter(printable(name), event.at_ns, counts)
            case Preview():
                args = {"frames": event.frames, "width": event.width, "height": event.height}
                name = f"preview {event.stage} {event.step + 1}"
                self.tracks.instant("notes", printable(name), event.at_ns, args)
            case Note():
                self.tracks.instant(
                    "notes", printable(event.topic), event.at_ns, {"text": printable(event.text)}
                )

    def _slice(
        self,
        queue: str,
        name: str,
        event: Transfer | Workspace | Step | StageSpan | Move,
        args: dict[str, Any],
    ) -> tuple[int, int]:
        span = (event.began_ns, event.ended_ns)
        return self.tracks.slice(printable(queue), printable(name), span, args)

    def _change(self, change: LevelChange) -> None:
        level = change.level
        held = {word: level.by_kind[kind] for word, kind in _COUNTERS.items()}
        values = {"resident": level.resident_bytes, **held}
        self.tracks.counter(f"memory {printable(level.tier)}", level.at_ns, values)

    def _move(self, move: Move) -> None:
        args = {
            "kind": str(move.kind), "nbytes": move.nbytes, "from": printable(move.source),
            "stage": printable(move.stage), "step": move.step, "cause": printable(move.cause),
            "resident_bytes": move.resident_bytes,
        }  # fmt: skip
        name = f"{move.verb} {move.name}"
        if move.verb is Verb.OFFLOAD:
            self._slice("copy", name, move, args)
        queue, at_ns = f"moves {move.tier}", move.ended_ns
        self.tracks.instant(printable(queue), printable(name), at_ns, args)

    def _transfer(self, transfer: Transfer) -> None:
        args = {
            "nbytes": transfer.nbytes, "tier": printable(transfer.tier),
            "stage": printable(transfer.stage), "step": transfer.step,
            "waited_us": transfer.waited_ns / 1000,
        }  # fmt: skip
        tid, began = self._slice(transfer.queue, transfer.name, transfer, args)
        middle = max(began, (began + transfer.ended_ns) // 2)
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(_Upload(transfer.stage, transfer.step, tid, middle))
        if transfer.waited_ns:
            span = (max(transfer.ended_ns - transfer.waited_ns, 0), transfer.ended_ns)
            self.tracks.slice("waiting", f"for {printable(transfer.name)}", span, {})

    def _call(self, work: Workspace) -> None:
        args = {
            "stage": printable(work.stage), "step": work.step, "tier": printable(work.tier),
            "workspace_bytes": work.nbytes, "resident_bytes": work.resident_bytes,
        }  # fmt: skip
        tid, began = self._slice("compute", work.name, work, args)
        for upload in self._waiting:
            ours = (upload.stage, upload.step) == (work.stage, work.step)
            if ours and upload.at_ns <= began:
                self._arrows += 1
                self.tracks.arrow(self._arrows, (upload.tid, upload.at_ns), (tid, began))
        self._waiting.clear()
