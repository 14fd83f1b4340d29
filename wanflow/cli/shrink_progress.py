"""What a person sees while weights are packed: a bar on a terminal, lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wanflow.cli.output import note
from wanflow.terminal.safe import clean

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def watch(*, silent: bool) -> "Iterator[Shown]":
    """Show it on stderr in the way that stderr can show it, or not at all."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    shown = Shown(silent=silent, terminal=terminal)
    try:
        yield shown
    finally:
        shown.finish()


class Shown:
    """A line for the whole and one a file; a bar on a terminal."""

    def __init__(self, *, silent: bool, terminal: bool) -> None:
        self._silent, self._terminal = silent, terminal
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def start(self, words: str, nbytes: int) -> None:
        """Say what is done and begin to draw."""
        if self._silent:
            return
        note(clean(words))
        if not self._terminal:
            return
        from rich import progress
        from rich.console import Console

        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True, markup=False, highlight=False, emoji=False),
            transient=True,
        )
        self._task = self._progress.add_task("", total=nbytes)
        self._progress.start()

    def begin(self, name: str) -> None:
        """Name the file that comes."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=clean(name))
        elif not self._silent:
            note(clean(name))

    def advance(self, nbytes: int) -> None:
        """Move the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, nbytes)

    def finish(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
