"""What a person sees while weights come: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wanflow.cli.output import note
from wanflow.terminal.safe import clean
from wanflow.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from wanflow.models.weights.hub import HubFile
    from wanflow.session.weights.download import FileTask, Watch

_QUIET_SECONDS = 10.0


@contextmanager
def watch(*, silent: bool) -> "Iterator[Watch]":
    """Show a download on stderr in the way that stderr can show it, or not at all."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    shown = Silent() if silent else Bar() if terminal else DownloadLines()
    try:
        yield shown
    finally:
        shown.finish()


def opening(task: "FileTask") -> str:
    """Say what is fetched, pinned to which commit, and where it goes."""
    snapshot, there_bytes = task.snapshot, task.total_bytes - task.missing_bytes
    already = f", {format_bytes(there_bytes)} of it there" if there_bytes else ""
    return clean(
        f"{snapshot.repo} at {snapshot.revision}, which is commit {snapshot.commit}\n"
        f"{len(task.files)} files, {format_bytes(task.total_bytes)}{already}, into {task.folder}"
    )


class Silent:
    """For `--json`."""

    def start(self, task: "FileTask") -> None:
        """Say nothing."""

    def begin(self, file: "HubFile") -> None:
        """Say nothing."""

    def advance(self, nbytes: int) -> None:
        """Say nothing."""

    def finish(self) -> None:
        """Nothing to clean up."""


class DownloadLines:
    """For a pipe or a log file: one line at most every ten seconds, and one a file."""

    def __init__(self) -> None:
        self._total = self._had = self._came = 0
        self._began = self._said = time.monotonic()

    def start(self, task: "FileTask") -> None:
        """Say what is fetched."""
        self._total, self._had = task.total_bytes, task.total_bytes - task.missing_bytes
        note(opening(task))

    def begin(self, file: "HubFile") -> None:
        """Say which file comes."""
        note(clean(f"{file.path}, {format_bytes(file.nbytes)}"))

    def advance(self, nbytes: int) -> None:
        """Say a line if it is time for one."""
        self._came += nbytes
        now = time.monotonic()
        if now - self._said < _QUIET_SECONDS or self._came <= 0:
            return
        self._said, rate = now, self._came / (now - self._began)
        left = self._total - self._had - self._came
        note(
            f"{format_bytes(self._had + self._came)} of {format_bytes(self._total)}, "
            f"{format_bytes(round(rate))}/s, {format_seconds(left / rate)} left"
        )

    def finish(self) -> None:
        """Nothing to clean up."""


class Bar:
    """For a terminal: one bar for all files, with the name of the one that comes."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def start(self, task: "FileTask") -> None:
        """Say what is fetched and begin to draw."""
        from rich import progress
        from rich.console import Console

        note(opening(task))
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True, markup=False, highlight=False, emoji=False),
            transient=True,
        )
        self._task = self._progress.add_task(
            "", total=task.total_bytes, completed=task.total_bytes - task.missing_bytes
        )
        self._progress.start()

    def begin(self, file: "HubFile") -> None:
        """Name the file that comes."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=clean(file.path))

    def advance(self, nbytes: int) -> None:
        """Move the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, nbytes)

    def finish(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
