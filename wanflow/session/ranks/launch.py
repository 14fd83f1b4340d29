"""Start a process a rank, hear how each ends, and leave none behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

import attrs

from wanflow.errors import Interrupted, StageFailed, WanflowError
from wanflow.scheduler.ranks import LOST
from wanflow.session.ranks.task import RankAnswer, RankFailure, RankTask

_POLL_SECONDS = 0.05
_CONSEQUENCE_SECONDS = 1.0  # in which those end that a rank's end takes with it
_GRACE_SECONDS = 4.0  # from asking a rank to end to ending it
_LAST_BYTES = 2000  # of what a rank said on stderr


@attrs.define
class RankProcess:
    """One rank's process. `answer` is there once it has ended, unless it was killed."""

    task: RankTask
    process: subprocess.Popen[bytes]
    pipe: int
    errors: IO[bytes]
    answer: RankAnswer | None = None
    _said: bytearray = attrs.field(factory=bytearray, init=False)

    @classmethod
    def start(cls, task: RankTask) -> RankProcess:
        """Start it, in a session of its own: a terminal's Ctrl-C is the parent's to pass on."""
        reading, writing = os.pipe()
        errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        process = subprocess.Popen(  # noqa: S603  ourselves
            [sys.executable, "-m", "wanflow.session.ranks.child", str(writing)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors,
            pass_fds=(writing,), start_new_session=True,
        )  # fmt: skip
        os.close(writing)
        os.set_blocking(reading, False)
        started = cls(task, process, reading, errors)
        if process.stdin is not None:
            with suppress(BrokenPipeError):  # it is gone already, and its end tells
                process.stdin.write(f"{task.to_json()}\n".encode())
                process.stdin.flush()
        return started

    def poll(self) -> bool:
        """Whether it has ended; its answer is read then."""
        self._read()
        if self.process.poll() is None:
            return False
        self._read()
        if self.answer is None and self._said:
            with suppress(ValueError):  # it was killed while it answered
                self.answer = RankAnswer.from_json(self._said.decode())
        return True

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while chunk := os.read(self.pipe, 1 << 16):
                self._said += chunk

    @property
    def failure(self) -> RankFailure | None:
        """Why there is no report of a process that has ended."""
        if self.answer is not None and self.answer.failure is not None:
            failure = self.answer.failure
            return attrs.evolve(failure, message=f"{self._name}: {failure.message}")
        if self.answer is not None:
            return None
        code = self.process.returncode
        how = f"exit code {code}, {self._last_words()}"
        if code < 0:
            how = f"killed by {signal.Signals(-code).name}"
        return RankFailure(1, f"{self._name} ended: {how}", code="rank-died")

    @property
    def _name(self) -> str:
        task = self.task
        return f"rank {task.index} ({task.seats.requests[task.index].device})"

    def _last_words(self) -> str:
        self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(self.errors.tell() - _LAST_BYTES, 0))
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "without a word"

    def close(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        self.errors.close()
        with suppress(OSError):
            os.close(self.pipe)


@contextmanager
def started(tasks: Sequence[RankTask]) -> Iterator[list[RankProcess]]:
    """Start all of them; none is there afterwards, however this ends."""
    processes: list[RankProcess] = []
    try:
        processes.extend(RankProcess.start(task) for task in tasks)
        yield processes
    finally:
        for process in processes:
            process.close()


def run_tasks(
    tasks: Sequence[RankTask], stop: Callable[[], None], watch: Callable[[], None]
) -> list[dict[str, object]]:
    """Run every rank to its end; return their reports.

    *stop* raises to end them (Ctrl-C), *watch* is called again and again meanwhile. Where one
    ends without a report the others are ended too, and its reason is raised.
    """
    with started(tasks) as processes:
        try:
            while not _all_ended(processes):
                stop()
                watch()
                if any(_failed(process) for process in processes):
                    break
                time.sleep(_POLL_SECONDS)
        except Interrupted:
            _ask_to_end(processes)
            raise
        if any(_failed(process) for process in processes):
            _wait(processes, _CONSEQUENCE_SECONDS)
            failures = [p.failure for p in processes if p.poll() and p.failure is not None]
            _ask_to_end(processes)
            raise _error(failures)
        reports = [p.answer.report for p in processes if p.answer is not None]
    watch()
    return [report for report in reports if report is not None]


def _all_ended(processes: Sequence[RankProcess]) -> bool:
    """Whether none is left; all of them are heard."""
    return False not in [process.poll() for process in processes]


def _failed(process: RankProcess) -> bool:
    return process.process.returncode is not None and process.failure is not None


def _error(failures: Sequence[RankFailure]) -> WanflowError:
    """The failure that is no other's consequence, as the error that it was."""
    first = min(failures, key=lambda failure: failure.code == LOST)
    error = StageFailed(first.message, hint=first.hint, code=first.code)
    error.exit_code = first.exit_code
    return error


def _ask_to_end(processes: Sequence[RankProcess]) -> None:
    """Have them stop between two calls; one that waits for another can't hear that."""
    for process in processes:
        if not process.poll():
            process.process.terminate()
    _wait(processes, _GRACE_SECONDS)


def _wait(processes: Sequence[RankProcess], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not _all_ended(processes):
        time.sleep(_POLL_SECONDS)
