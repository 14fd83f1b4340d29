"""What a person sees while rows are made: the row's bars on a terminal, a line a row elsewhere."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wanflow.cli.output import note
from wanflow.cli.preview_blocks import LastPreview
from wanflow.cli.progress import head_line, memory_lines
from wanflow.terminal.safe import clean
from wanflow.trace.events import Event
from wanflow.trace.stage_progress import StageProgress
from wanflow.units import format_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_QUIET_SECONDS = 2.0


@contextmanager
def watch_rows(*, silent: bool) -> "Iterator[RowLines | RowBars | None]":
    """Show rows on stderr in the way that stderr can show them."""
    if silent:
        yield None
        return
    terminal = sys.stderr is not None and sys.stderr.isatty()
    watch = RowBars() if terminal else RowLines()
    try:
        yield watch
    finally:
        watch.finish()


def row_line(entry: Mapping[str, Any], count: int, left_seconds: float) -> str:
    """Say what became of a row."""
    where = f"row {entry['row']} of {count}"
    if entry["status"] == "stopped":
        return f"{where} stopped where it should"
    if entry["status"] != "done":
        return f"{where} failed (line {entry['line']}): {entry.get('error', '')}"
    left = f", {format_seconds(left_seconds)} left" if left_seconds else ""
    return f"{where} done in {format_seconds(entry['seconds'])}{left}"


class RowLines:
    """For a pipe or a log file: a line a row, not more often than every two seconds."""

    sink = None

    def __init__(self) -> None:
        self._count, self._left, self._said = 0, 0.0, 0.0

    def encodes(self, rows: int) -> None:
        """Say what is done before the first row of many."""
        note(f"encoding the prompts of {rows} rows" if rows > 1 else "encoding a prompt")

    def opens(self, count: int) -> None:
        """Learn how many there are."""
        self._count = count

    def begins(self, number: int, left_seconds: float) -> None:
        """Keep what is known."""
        del number
        self._left = left_seconds

    def ended(self, entry: Mapping[str, Any]) -> None:
        """Say it."""
        quick = time.monotonic() - self._said < _QUIET_SECONDS and entry["row"] != self._count
        if entry["status"] == "done" and quick:
            return
        self._said = time.monotonic()
        took = entry.get("seconds", 0.0)
        note(clean(row_line(entry, self._count, max(self._left - took, 0.0))))

    def finish(self) -> None:
        """Nothing to clean up."""


class _RowEvents:
    """A sink that the bars of one row after another are drawn from."""

    def __init__(self) -> None:
        self.state, self.preview = StageProgress(), LastPreview()

    def start(self, report: Mapping[str, Any]) -> None:
        """Learn the plan of a row."""
        self.state = StageProgress()
        self.state.plan(report)
        self.preview.start(report)

    def emit(self, event: Event) -> None:
        """Follow one event."""
        self.state.see(event)
        self.preview.see(event)


class RowBars:
    """For a terminal: the row, and below it the stage, the step and the memory."""

    def __init__(self) -> None:
        self.sink = _RowEvents()
        self._head, self._count, self._left = "starting", 0, 0.0
        self._live: Live | None = None

    def encodes(self, rows: int) -> None:
        """Say what is done before the first row of many."""
        self._head = f"encoding the prompts of {rows} rows"
        self.sink.state = StageProgress()
        self._begin()

    def opens(self, count: int) -> None:
        """Learn how many there are."""
        self._count = count

    def begins(self, number: int, left_seconds: float) -> None:
        """Say which row it is."""
        left = f"  {format_seconds(left_seconds)} left" if left_seconds else ""
        self._head, self._left = f"row {number + 1} of {self._count}{left}", left_seconds
        self._begin()

    def ended(self, entry: Mapping[str, Any]) -> None:
        """Leave a line above the bars."""
        took = entry.get("seconds", 0.0)
        line = clean(row_line(entry, self._count, max(self._left - took, 0.0)))
        self._live.console.print(line) if self._live is not None else note(line)

    def finish(self) -> None:
        """Take the bars away."""
        if self._live is not None:
            self._live.stop()

    def _begin(self) -> None:
        from rich.console import Console
        from rich.live import Live

        if self._live is None:
            console = Console(stderr=True, markup=False, highlight=False, emoji=False)
            self._live = Live(
                console=console,
                get_renderable=self._draw,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def _draw(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        state = self.sink.state
        bars = f"{head_line(state)}\n{memory_lines(state)}" if state.budget_bytes else ""
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(clean(f"{self._head}\n{bars}"))
        picture = self.sink.preview.drawn(self._live.console) if self._live is not None else None
        return text if picture is None else Group(picture, text)
