"""What a person sees while a run goes on: bars on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from wanflow.cli.output import note
from wanflow.cli.render_notes import note_lines
from wanflow.terminal.safe import clean
from wanflow.trace.events import Event, Move, Note, StageSpan, Step, Workspace
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


@attrs.frozen
class Cycle:
    """How far a stage is."""

    done: int
    total: int
    seconds: float  # of the last step


@attrs.define
class StageProgress:
    """Where the run is, read off its events. Stages that stream into each other take turns."""

    budget_bytes: int = 0
    overhead_bytes: int = 0  # of the budget, what no event counts
    planned_bytes: int = 0
    predicted: dict[str, float] = attrs.field(factory=dict)  # seconds, by stage
    turns: dict[str, Cycle] = attrs.field(factory=dict)
    ended: dict[str, float] = attrs.field(factory=dict)  # seconds, by stage
    stage: str = ""
    now_bytes: int = 0
    peak_bytes: int = 0

    def plan(self, report: Mapping[str, Any]) -> None:
        """Take the budget and the predictions."""
        self.budget_bytes = report.get("budget_bytes") or 0
        self.overhead_bytes = report.get("overhead_bytes") or 0
        self.planned_bytes = report.get("predicted_peak_bytes") or 0
        self.predicted = {s["stage"]: s["seconds"] for s in report.get("stages", ())}

    def see(self, event: Event) -> None:
        """Follow one event."""
        match event:
            case Move() | Workspace():
                if event.tier != "host":
                    self._hold(event.resident_bytes)
            case Step():
                self.turns[event.stage] = Cycle(event.index + 1, event.total, _seconds(event))
                self._hold(event.resident_bytes)
            case StageSpan():
                self.ended[event.stage] = _seconds(event)
                self.peak_bytes = max(self.peak_bytes, self.of_stage(event))
        if isinstance(event, Move | Workspace | Step) and event.stage not in self.ended:
            self.stage = event.stage

    def of_stage(self, event: StageSpan) -> int:
        """Say a stage's peak with what is set aside, as the plan has it."""
        return event.peak_bytes + self.overhead_bytes

    def turn(self) -> Cycle:
        """Say how far the stage at work is; nothing of nothing before its first step ended."""
        return self.turns.get(self.stage, Cycle(0, 0, 0.0))

    def left_seconds(self) -> float:
        """Estimate what is left: measured steps, and scaled predictions for the rest."""
        begun = {name: turn for name, turn in self.turns.items() if name not in self.ended}
        later = [s for name, s in self.predicted.items() if name not in {*begun, *self.ended}]
        steps = sum((turn.total - turn.done) * turn.seconds for turn in begun.values())
        return steps + sum(later) * self._pace()

    def _pace(self) -> float:
        """Say how much slower than predicted it went so far."""
        took = sum(self.ended.get(name, 0.0) for name in self.predicted)
        planned = sum(self.predicted[name] for name in self.ended if name in self.predicted)
        return took / planned if took and planned else 1.0

    def _hold(self, now: int) -> None:
        self.now_bytes = now + self.overhead_bytes
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)


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
        self._state = StageProgress()
        self._live: Live | None = None

    def start(self, report: Mapping[str, Any]) -> None:
        """Learn the plan and begin to draw."""
        from rich.console import Console
        from rich.live import Live

        self._state.plan(report)
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
        from rich.text import Text

        text = Text(no_wrap=True, overflow="ellipsis")
        return text.append(clean(f"{head_line(self._state)}\n{memory_lines(self._state)}"))


def stage_line(event: StageSpan, peak_bytes: int) -> str:
    """Say that a stage ended."""
    took = format_seconds(_seconds(event))
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


def _seconds(event: Step | StageSpan) -> float:
    return (event.ended_ns - event.began_ns) / 1e9
