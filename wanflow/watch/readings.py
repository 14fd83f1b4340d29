"""The traces that are looked at: each is followed once, whoever asks; the last asked for stay."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import PurePosixPath

import attrs

from wanflow.errors import InputError
from wanflow.files.run_files import PLAN, TRACE
from wanflow.watch.followed_trace import FollowedTrace, stamp_of
from wanflow.watch.run_card import RunCard
from wanflow.watch.tree import Parts, Tree, json_in, open_in, path_of

MOST_READINGS = 32


@attrs.define
class Readings:
    """Traces by run and name. Each takes a file handle and some hundred KiB."""

    tree: Tree
    most: int = MOST_READINGS
    _kept: OrderedDict[tuple[str, str], tuple[tuple[int, int, int], FollowedTrace]] = attrs.field(
        factory=OrderedDict, init=False
    )
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def of(self, run: RunCard, name: str = TRACE) -> FollowedTrace:
        """Give a trace of a run, from its start if it is a new one.

        InputError for what is no trace; OSError where there is none.
        """
        with self._lock, self.tree.folder(run.parts) as folder:
            handle = open_in(folder, name)
            try:
                return self._of((run.key, name), handle, folder)
            finally:
                os.close(handle)

    def close(self) -> None:
        """Let go of every file."""
        with self._lock:
            for _, trace in self._kept.values():
                trace.close()
            self._kept.clear()

    def _of(self, key: tuple[str, str], handle: int, folder: int) -> FollowedTrace:
        stamp = stamp_of(handle)
        if key in self._kept:
            before, trace = self._kept[key]
            if _goes_on(before, stamp, trace):
                self._kept[key] = stamp, trace
                self._kept.move_to_end(key)
                return trace
            self._kept.pop(key)
            trace.close()
        plan = json_in(folder, PLAN) if key[1] == TRACE else {}  # earlier tries had other plans
        try:
            trace = FollowedTrace.of(handle, {"stages": plan.get("stages")})
        except InputError as error:
            message = error.message.replace(str(path_of(handle)), key[1])
            raise InputError(message, hint=error.hint, code=error.code) from None
        self._kept[key] = stamp, trace
        while len(self._kept) > self.most:
            _, (_, oldest) = self._kept.popitem(last=False)
            oldest.close()
        return trace


def _goes_on(before: tuple[int, int, int], now: tuple[int, int, int], trace: FollowedTrace) -> bool:
    """Whether a file is the one that was followed, and no shorter than it was."""
    if before[:2] != now[:2] or now[2] < before[2]:
        return False
    # Of a header that was cut nothing can be read on; of a trace that ended nothing comes.
    return before == now or (bool(trace.reader.header) and not trace.reader.closed)


def split(name: str) -> tuple[Parts, str]:
    """Take the name of a run's file apart: folders in the run's, and the file."""
    path = PurePosixPath(name)
    return path.parts[:-1], path.name
