"""What is read off a whole trace for the page: the report, and the views of the command line."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanflow.errors import InputError
from wanflow.terminal.safe import clean
from wanflow.trace.report.wording import Lang
from wanflow.units import format_bytes
from wanflow.watch.followed_trace import stamp_of
from wanflow.watch.readings import RankFile, Readings
from wanflow.watch.run_card import RunCard
from wanflow.watch.tree import path_of

if TYPE_CHECKING:
    from rich.console import Console

_MOST_KEPT = 16
_MOST_TRACE_BYTES = 128 * 2**20  # a million events: a minute
_WIDTH = 100


@attrs.define
class TracePages:
    """Texts made of traces, one at a time; the last ones are kept."""

    readings: Readings
    _kept: OrderedDict[tuple[object, ...], str] = attrs.field(factory=OrderedDict, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def report(self, run: RunCard, name: str, rank: int, lang: Lang) -> str:
        """Write the report of a rank's trace as a page; InputError for what is none, OSError."""
        return self._made(
            run, name, rank, f"report {lang}", lambda path, of: _report(path, of, lang)
        )

    def view(self, run: RunCard, name: str, rank: int, view: str) -> str:
        """Write one of `VIEWS` of a rank's trace as text; InputError for what is none, OSError."""
        return self._made(run, name, rank, view, lambda path, of: _text(path, of, VIEWS[view]))

    def _made(
        self, run: RunCard, name: str, rank: int, what: str, make: Callable[[Path, int], str]
    ) -> str:
        with self._lock, self.readings.file(run, name, rank) as file:
            key = (run.key, file.name, file.rank, what, stamp_of(file.handle))
            if key not in self._kept:
                self._check(file, run)
                self._kept[key] = _named(make, file)
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _check(self, file: RankFile, run: RunCard) -> None:
        size = os.fstat(file.handle).st_size
        if size > _MOST_TRACE_BYTES:
            most = format_bytes(_MOST_TRACE_BYTES)
            raise InputError(
                f"{file.name} has {format_bytes(size)}, the page reads {most} at once",
                hint=f"wanflow trace report {run.name}",
                code="trace-large",
            )


def _named(make: Callable[[Path, int], str], file: RankFile) -> str:
    """Make a text of an open file that says the file's name where it says where the file is."""
    path = path_of(file.handle)
    try:
        return make(path, file.rank).replace(str(path), file.name)
    except InputError as error:
        message = error.message.replace(str(path), file.name)
        raise InputError(message, hint=error.hint, code=error.code) from None


def _report(path: Path, rank: int, lang: Lang) -> str:
    from wanflow.trace.report import facts, html

    return html(facts(path, rank), None, lang)


def _text(path: Path, rank: int, draw: Callable[[Path, int, Console], None]) -> str:
    from rich.console import Console

    out = io.StringIO()
    draw(path, rank, Console(file=out, width=_WIDTH, markup=False, highlight=False, emoji=False))
    lines = out.getvalue().rstrip("\n").split("\n")
    return clean("\n".join(line.rstrip() for line in lines if not line.startswith("hint: ")))


def _summary(path: Path, rank: int, console: Console) -> None:
    from wanflow.trace import summarise, views

    views.render_summary(summarise(path, rank), console)


def _stages(path: Path, rank: int, console: Console) -> None:
    from wanflow.trace import read, summarise, views
    from wanflow.trace.stage_peaks import stage_loads

    summary = summarise(path, rank)
    loads = stage_loads(read(path, rank), summary.stages, summary.budget_tier or "")
    views.render_stages(loads, console)


def _timeline(path: Path, rank: int, console: Console) -> None:
    from wanflow.trace import read, summarise
    from wanflow.trace.timeline import timeline
    from wanflow.trace.views.timeline import cells_for, render_timeline

    summary = summarise(path, rank)
    drawn = timeline(
        lambda: read(path, rank), summary.budget_tier or "", summary.budget_bytes,
        overhead_bytes=summary.overhead_bytes, cells=cells_for(_WIDTH),
    )  # fmt: skip
    render_timeline(drawn, console)


def _peak(path: Path, rank: int, console: Console) -> None:
    from wanflow.trace import read, summarise, views
    from wanflow.trace.moment import peak_moment

    tier = summarise(path, rank).budget_tier or ""
    moment = peak_moment(lambda: read(path, rank), tier)
    if moment is None:
        raise InputError(f"{path}: nothing was on any tier", code="nothing-there")
    views.render_moment(moment, console)


def _check(path: Path, rank: int, console: Console) -> None:
    from wanflow.trace import views
    from wanflow.trace.check import check

    views.render_check(check(path, rank), console)


VIEWS: dict[str, Callable[[Path, int, Console], None]] = {
    "summary": _summary,
    "stages": _stages,
    "timeline": _timeline,
    "peak": _peak,
    "check": _check,
}
