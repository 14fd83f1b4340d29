"""A trace in the formats of other programs. What is drawn or counted is read off its events.

Streaming: what is kept is what is resident and what is on the screen, never the events.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal

import attrs

from wanflow.trace.exports.scene import Scene
from wanflow.trace.exports.target import writing
from wanflow.trace.reader import TraceFile, TraceReader
from wanflow.trace.summary import summarise
from wanflow.trace.unreplaced import unreplaced

Format = Literal["perfetto", "chrome", "events", "json", "csv", "png", "svg"]

__all__ = ["Exported", "Format", "export"]


@attrs.frozen
class Exported:
    """What was written: `rows` are the export's own (events, lines); `problem` is the trace's."""

    output: str
    format: str
    nbytes: int
    events: int
    rows: int
    state: str
    problem: str


def export(trace: Path, wanted: Format, output: Path, rank: int = 0) -> Exported:
    """Write a *rank* of *trace* to *output*, which is replaced, in another format.

    `chrome` is `perfetto` and `json` is `events` by another name. A trace that is cut is exported
    up to the cut. Raises InputError for no trace or no file, StageFailed when the disk is full,
    TraceError when *trace* is replaced meanwhile.
    """
    with TraceReader(trace, rank), writing(output, trace) as out, unreplaced(trace):
        info, rows = _WRITERS[wanted](trace, rank, out)
        nbytes = out.tell()
    return Exported(str(output), wanted, nbytes, info.records, rows, str(info.state), info.problem)


def _perfetto(trace: Path, rank: int, out: BinaryIO) -> tuple[TraceFile, int]:
    from wanflow.trace.exports.perfetto import write_perfetto

    with TraceReader(trace, rank) as reader:
        rows = write_perfetto(reader, out)
        return reader.info(), rows


def _events(trace: Path, rank: int, out: BinaryIO) -> tuple[TraceFile, int]:
    from wanflow.trace.exports.memory_events import write_memory_events

    summary = summarise(trace, rank)
    with TraceReader(trace, rank) as reader:
        rows = write_memory_events(reader, summary, out)
        return reader.info(), rows


def _csv(trace: Path, rank: int, out: BinaryIO) -> tuple[TraceFile, int]:
    from wanflow.trace.exports.table import write_csv

    with TraceReader(trace, rank) as reader:
        rows = write_csv(reader, out)
        return reader.info(), rows


def _svg(trace: Path, rank: int, out: BinaryIO) -> tuple[TraceFile, int]:
    from wanflow.trace.exports.svg import svg_text

    scene, info, events = _drawn(trace, rank)
    out.write(svg_text(scene).encode())
    return info, events


def _png(trace: Path, rank: int, out: BinaryIO) -> tuple[TraceFile, int]:
    from wanflow.trace.exports.png import png_bytes

    scene, info, events = _drawn(trace, rank)
    out.write(png_bytes(scene))
    return info, events


def _drawn(trace: Path, rank: int) -> tuple[Scene, TraceFile, int]:
    from wanflow.trace.exports.chart import COLUMNS, chart
    from wanflow.trace.exports.curve import draw_curves

    summary = summarise(trace, rank)
    with TraceReader(trace, rank) as reader:
        curves = draw_curves(reader, round(summary.seconds * 1e9), COLUMNS)
        aside = reader.header.get("overhead_bytes")
        scene = chart(curves, summary, aside if type(aside) is int and aside > 0 else 0)
        return scene, reader.info(), curves.events


_WRITERS: dict[Format, Callable[[Path, int, BinaryIO], tuple[TraceFile, int]]] = {
    "perfetto": _perfetto,
    "chrome": _perfetto,
    "events": _events,
    "json": _events,
    "csv": _csv,
    "png": _png,
    "svg": _svg,
}
