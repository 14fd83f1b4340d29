"""A run while it goes on: the summary, drawn again and again, from its events or its file."""

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from wanflow.cli.progress import (
    Progress,
    head_line,
    memory_lines,
    say_notes,
    watch,
)
from wanflow.files.lock import is_locked
from wanflow.terminal.safe import clean
from wanflow.trace import TraceFile, TraceReader
from wanflow.trace.codec import event_of
from wanflow.trace.events import Event
from wanflow.trace.plain import count_in
from wanflow.trace.stage_progress import StageProgress
from wanflow.trace.summary import Running, Summary

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_POLL_SECONDS = 0.5


@attrs.define
class Screen:
    """What is drawn. Events come from one thread, and another one draws."""

    state: StageProgress = attrs.field(factory=StageProgress)
    running: Running = attrs.field(factory=Running)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def add(self, event: Event) -> None:
        """Follow one event."""
        with self._lock:
            self.state.see(event)
            self.running.add(event)

    def so_far(self, file: TraceFile) -> Summary:
        """Sum up what was seen; *file* is what is known of the trace."""
        with self._lock:
            return self.running.so_far(file)

    def bars(self) -> str:
        """Write where it is and its memory, three lines."""
        with self._lock:
            return f"{head_line(self.state)}\n{memory_lines(self.state)}"

    def text(self, summarise: Callable[[Running], Summary], width: int) -> str:
        """Write the bars, then the summary so far."""
        from rich.console import Console

        from wanflow.trace.views import render_summary

        with self._lock:
            summary = summarise(self.running)
        bars = f"{self.bars()}\n"
        out = io.StringIO()
        render_summary(attrs.evolve(summary, state="whole"), Console(file=out, width=width))
        summary_lines = [
            line for line in out.getvalue().splitlines() if not line.startswith("hint: ")
        ]
        return clean(bars + "\n".join(summary_lines))


def live_on(console: "Console", draw: Callable[[int], str], *, transient: bool = False) -> "Live":
    """Make a live display of what *draw* writes for a width; *transient*: gone at the end."""
    from rich.live import Live
    from rich.text import Text

    def render() -> "RenderableType":
        return Text(draw(console.width), no_wrap=True, overflow="crop")

    return Live(
        console=console, get_renderable=render, refresh_per_second=4, vertical_overflow="crop",
        transient=transient, redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip


class LiveRun:
    """A sink of `wanflow run --live`: the summary on stderr while the run goes on."""

    def __init__(self) -> None:
        self._screen = Screen()
        self._header: dict[str, Any] = {}
        self._live: Live | None = None

    def start(self, report: Mapping[str, Any]) -> None:
        """Learn the plan and begin to draw."""
        from rich.console import Console

        self._screen.state.plan(report)
        say_notes(report)
        names = ("graph", "device", "plan_id", "budget_bytes", "overhead_bytes",
                "predicted_peak_bytes", "predicted_seconds")  # fmt: skip
        self._header = {key: report[key] for key in names if key in report}
        self._header["stages"] = [stage["stage"] for stage in report.get("stages", ())]
        console = Console(stderr=True, markup=False, highlight=False, emoji=False)
        self._live = live_on(console, self._draw)
        self._live.start()

    def emit(self, event: Event) -> None:
        """Follow the event."""
        self._screen.add(event)

    def finish(self) -> None:
        """Leave the last screen where it is."""
        if self._live is not None:
            self._live.stop()

    def _draw(self, width: int) -> str:
        return self._screen.text(lambda running: running.so_far_of(self._header), width)


@contextmanager
def watch_live() -> Iterator[Progress]:
    """Show the run's summary as it grows; without a terminal, lines."""
    if sys.stderr is None or not sys.stderr.isatty():
        with watch() as lines:
            yield lines
        return
    live = LiveRun()
    try:
        yield live
    finally:
        live.finish()


def follow(path: Path, console: "Console") -> list[Summary]:
    """Draw the trace at *path* until its run is over; return the summary of each rank."""
    with TraceReader(path) as reader:
        screens = [_screen_of(reader.info(rank).header) for rank in range(reader.ranks)]

        def summaries() -> list[Summary]:
            return [s.so_far(reader.info(rank)) for rank, s in enumerate(screens)]

        def draw(width: int) -> str:
            if len(screens) > 1:
                return _side_by_side(screens, summaries(), width)
            return screens[0].text(lambda running: running.so_far(reader.info()), width)

        with live_on(console, draw, transient=True):
            while True:
                # Asked first: what was written before it ended is read.
                alive = is_locked(path.parent)
                for rank, row in reader.ranked_rows():
                    screens[rank].add(event_of(row))
                if not alive or not reader.grown():
                    break
                time.sleep(_POLL_SECONDS)
        return summaries()


def _screen_of(header: Mapping[str, Any]) -> Screen:
    screen = Screen()
    screen.state.budget_bytes = count_in(header, "budget_bytes") or 0
    screen.state.overhead_bytes = count_in(header, "overhead_bytes") or 0
    screen.state.planned_bytes = count_in(header, "predicted_peak_bytes") or 0
    return screen


def _side_by_side(screens: Sequence[Screen], summaries: Sequence[Summary], width: int) -> str:
    """Write the bars of each rank, then the ranks so far."""
    from rich.console import Console

    from wanflow.trace.views import render_ranks

    out = io.StringIO()
    render_ranks(summaries, Console(file=out, width=width))
    bars = (f"rank {rank}: {screen.bars()}" for rank, screen in enumerate(screens))
    return clean("\n".join([*bars, out.getvalue()]))
