"""What a person sees while a run goes on: bars on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from wanflow.cli.output import note
from wanflow.cli.preview_blocks import LastPreview
from wanflow.cli.render_notes import note_lines
from wanflow.terminal.safe import clean
from wanflow.trace.events import Event, Note, StageSpan, Step
from wanflow.trace.stage_progress import StageProgress, seconds_of
from wanflow.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_QUIET_SECONDS = 10.0
_BAR = 32


class Progress(Protocol):
    """A trace sink that is told the plan first, and when there is no more."""

    def start(self, report: Mapping[str, Any]) -> None:
        """Learn the plan: budget, predicted peak and the stages' predicted times."""

    def emit(self, event: Event) -> None:
        """Take one event."""

    def finish(self) -> None:
        """Clean up; called once, however the run ended."""


@contextmanager
def silent() -> Iterator[None]:
    """Watch nothing (`--json`)."""
    yield None


@contextmanager
def watch() -> Iterator[Progress]:
    """Show the run on stderr in the way that stderr can show it."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    progress = ProgressBars() if terminal else ProgressLines()
    try:
        yield progress
    finally:
        progress.finish()


def say_notes(report: Mapping[str, Any]) -> None:
    """Say before a run what its plan notes."""
    for text in note_lines(report):
        note(text)


class ProgressLines:
    """For a pipe or a log file: one line at most every ten seconds, and one a stage."""

    def __init__(self) -> None:
        self._state = StageProgress()
        self._said = time.monotonic()

    def start(self, report: Mapping[str, Any]) -> None:
        """Learn the plan, and say what it notes."""
        self._state.plan(report)
        say_notes(report)

    def emit(self, event: Event) -> None:
        """Say a line if it is time for one."""
        self._state.see(event)
        if isinstance(event, StageSpan):
            self._say(stage_line(event, self._state.of_stage(event)))
        elif isinstance(event, Note):
            self._say(f"{event.topic}: {event.text}")
        elif isinstance(event, Step) and time.monotonic() - self._said >= _QUIET_SECONDS:
            self._say(step_line(self._state))

    def finish(self) -> None:
        """Nothing to clean up."""

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        note(clean(line))


class ProgressBars:
    """For a terminal: a bar of steps over a bar of memory against the budget."""

    def __init__(self) -> None:
        self._state, self._preview = StageProgress(), LastPreview()
        self._live: Live | None = None

    def start(self, report: Mapping[str, Any]) -> None:
        """Learn the plan and begin to draw."""
        from rich.console import Console
        from rich.live import Live

        self._state.plan(report)
        self._preview.start(report)
        say_notes(report)
        console = Console(stderr=True, markup=False, highlight=False, emoji=False)
        self._live = Live(
            console=console,
            get_renderable=self._draw,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def emit(self, event: Event) -> None:
        """Follow the event; lines that stay are printed above the bars."""
        self._state.see(event)
        self._preview.see(event)
        if self._live is None:
            return
        if isinstance(event, StageSpan):
            self._live.console.print(clean(stage_line(event, self._state.of_stage(event))))
        elif isinstance(event, Note):
            self._live.console.print(clean(f"{event.topic}: {event.text}"))

    def finish(self) -> None:
        """Take the bars away."""
        if self._live is not None:
            self._live.stop()

    def _draw(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(clean(f"{head_line(self._state)}\n{memory_lines(self._state)}"))
        picture = self._preview.drawn(self._live.console) if self._live is not None else None
        return text if picture is None else Group(picture, text)


def stage_line(event: StageSpan, peak_bytes: int) -> str:
    """Say that a stage ended."""
    took = format_seconds(seconds_of(event))
    return f"{event.stage} done in {took}, peak {format_bytes(peak_bytes)}"


def step_line(state: StageProgress) -> str:
    """Say where the run is, in one line for a log."""
    memory = f"{format_bytes(state.now_bytes)} of {format_bytes(state.budget_bytes)}"
    turn, left = state.turn(), format_seconds(state.left_seconds())
    return f"{state.stage} {turn.done}/{turn.total}, {memory}, {left} left"


def head_line(state: StageProgress) -> str:
    """Say the stage, the step and the time left."""
    turn = state.turn()
    if not turn.total:
        return state.stage or "starting"
    pace, left = format_seconds(turn.seconds), format_seconds(state.left_seconds())
    return f"{state.stage}  step {turn.done}/{turn.total}  {pace} a step  {left} left"


def memory_lines(state: StageProgress) -> str:
    """Draw memory against the budget; `|` marks the peak that the plan predicts."""
    budget = state.budget_bytes or 1
    now, peak = (min(_BAR, n * _BAR // budget) for n in (state.now_bytes, state.peak_bytes))
    cells = list(("#" * now).ljust(max(now, peak), ".").ljust(_BAR))
    cells[min(_BAR - 1, state.planned_bytes * _BAR // budget)] = "|"
    said = f"{format_bytes(state.now_bytes)} of {format_bytes(state.budget_bytes)}"
    peaks = f"{format_bytes(state.peak_bytes)}, planned {format_bytes(state.planned_bytes)} (|)"
    return f"memory [{''.join(cells)}] {said}\npeak {peaks}"
