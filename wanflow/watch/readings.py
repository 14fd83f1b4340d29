"""The traces that are looked at: each is followed once, whoever asks; the last asked for stay."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import PurePosixPath

import attrs

from wanflow.errors import InputError
from wanflow.files.run_files import PLAN, RANKS, TRACE
from wanflow.watch.followed_trace import FollowedTrace, stamp_of
from wanflow.watch.planned import RankForecast, planned_ranks
from wanflow.watch.rank_files import MOST_RANKS, count_own, open_own, own_name
from wanflow.watch.run_card import RunCard
from wanflow.watch.tree import Parts, Tree, json_in, open_in, path_of

MOST_READINGS = 128
_MOST_PLANS = 32  # more than the runs that are looked at at once

Stamp = tuple[int, int, int]


@attrs.frozen
class RankFile:
    """An open file with a rank's events: `name` is its own, `rank` the one to be read of it."""

    handle: int
    name: str
    rank: int


@attrs.frozen
class RanksPlan:
    """What a run's `plan.json` says: of how many ranks, 0 for one device, and of the first ones."""

    stamp: Stamp | None
    count: int
    ranks: tuple[RankForecast, ...]

    def of(self, rank: int) -> RankForecast:
        """Give what is planned for a rank; nothing for one that is not kept."""
        return self.ranks[rank] if rank < len(self.ranks) else RankForecast()


@attrs.define
class Readings:
    """Traces by run, name and rank. Each takes a file handle and some hundred KiB."""

    tree: Tree
    most: int = MOST_READINGS
    _kept: OrderedDict[tuple[str, str, int], tuple[Stamp, FollowedTrace]] = attrs.field(
        factory=OrderedDict, init=False
    )
    _plans: OrderedDict[str, RanksPlan] = attrs.field(factory=OrderedDict, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def of(self, run: RunCard, name: str = TRACE, rank: int = 0) -> FollowedTrace:
        """Give a trace of a run, or of a rank of it, from its start if it is a new one.

        InputError for what is no trace, and for a rank that there is none of; OSError where there
        is no file.
        """
        with self._lock, self.tree.folder(run.parts) as folder:
            plan = self._plan(run, folder)
            try:
                with _opened(folder, name, rank, own=_has_own(folder, name, plan)) as file:
                    return self._of(run, name, rank, file, plan)
            except (OSError, InputError):
                if run.state == "running" or not _has_own(folder, name, plan):
                    raise
            with _opened(folder, name, rank, own=False) as file:  # as far as it was put together
                return self._of(run, name, rank, file, plan)

    def count(self, run: RunCard, name: str = TRACE) -> int:
        """Say how many ranks a run has; 1 on one device, and where nothing says so."""
        with self._lock, self.tree.folder(run.parts) as folder:
            planned = self._plan(run, folder).count if name == TRACE else 0
            if planned > 1:
                return planned
            if name == TRACE and not _is_there(folder, TRACE) and (own := count_own(folder)):
                return own
        try:
            return self.of(run, name).ranks
        except (OSError, InputError):
            return 1

    def device(self, run: RunCard, rank: int) -> str:
        """Say on which device a rank was planned to run; "" where nothing says so."""
        with self._lock:
            plan = self._plans.get(run.key)
            return "" if plan is None else plan.of(rank).device

    def open_file(self, run: RunCard, name: str, rank: int) -> tuple[int, str]:
        """Open the file that has a rank's events, and name it; OSError where there is none."""
        with self.file(run, name, rank) as file:
            return os.dup(file.handle), file.name

    @contextmanager
    def file(self, run: RunCard, name: str, rank: int) -> Iterator[RankFile]:
        """Lend the file that has a rank's events; OSError where there is none."""
        with ExitStack() as stack:
            with self._lock, self.tree.folder(run.parts) as folder:
                own = _has_own(folder, name, self._plan(run, folder))
                try:
                    file = stack.enter_context(_opened(folder, name, rank, own=own))
                except OSError:
                    if not own:
                        raise
                    file = stack.enter_context(_opened(folder, name, rank, own=False))
            yield file

    def close(self) -> None:
        """Let go of every file."""
        with self._lock:
            for _, trace in self._kept.values():
                trace.close()
            self._kept.clear()

    def _of(
        self, run: RunCard, name: str, rank: int, file: RankFile, plan: RanksPlan
    ) -> FollowedTrace:
        key, stamp = (run.key, name, rank), stamp_of(file.handle)
        if key in self._kept:
            before, trace = self._kept[key]
            if _goes_on(before, stamp, trace):
                self._kept[key] = stamp, trace
                self._kept.move_to_end(key)
                return trace
            self._kept.pop(key)
            trace.close()
        stages = plan.of(rank).stages if name == TRACE else ()  # earlier tries had other plans
        try:
            trace = FollowedTrace.of(file.handle, stages, file.rank)
        except InputError as error:
            message = error.message.replace(str(path_of(file.handle)), file.name)
            raise InputError(message, hint=error.hint, code=error.code) from None
        self._kept[key] = stamp, trace
        while len(self._kept) > self.most:
            _, (_, oldest) = self._kept.popitem(last=False)
            oldest.close()
        return trace

    def _plan(self, run: RunCard, folder: int) -> RanksPlan:
        """Read what `plan.json` says of the ranks, again where it is another one."""
        stamp = _stamp_in(folder, PLAN)
        known = self._plans.get(run.key)
        if known is None or known.stamp != stamp:
            plan = json_in(folder, PLAN) if stamp is not None else {}
            known = self._plans[run.key] = RanksPlan(stamp, *planned_ranks(plan, MOST_RANKS))
            while len(self._plans) > _MOST_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(run.key)
        return known


@contextmanager
def _opened(folder: int, name: str, rank: int, *, own: bool) -> Iterator[RankFile]:
    """Open a rank's own trace, or the one trace that has all of them."""
    if own:
        file = RankFile(open_own(folder, rank), own_name(rank), 0)
    else:
        file = RankFile(open_in(folder, name), name, rank)
    try:
        yield file
    finally:
        os.close(file.handle)


def _has_own(folder: int, name: str, plan: RanksPlan) -> bool:
    """Whether ranks' own traces are of this run: they stay where their run was killed."""
    if name != TRACE:
        return False
    there = _is_there(folder, RANKS)
    return there and (plan.count > 1 or not _is_there(folder, TRACE))


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def _stamp_in(folder: int, name: str) -> Stamp | None:
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return there.st_ino, there.st_size, there.st_mtime_ns


def _goes_on(before: Stamp, now: Stamp, trace: FollowedTrace) -> bool:
    """Whether a file is the one that was followed, and no shorter than it was."""
    if before[:2] != now[:2] or now[2] < before[2]:
        return False
    # Of a header that was cut nothing can be read on; of a trace that ended nothing comes.
    return before == now or (bool(trace.reader.header) and not trace.reader.closed)


def split(name: str) -> tuple[Parts, str]:
    """Take the name of a run's file apart: folders in the run's, and the file."""
    path = PurePosixPath(name)
    return path.parts[:-1], path.name
