"""The runs and batches of a folder, by keys of ours: looked for anew only where something changed.

A folder whose time of change is as it was is not opened, so thousands of runs cost a `stat` each.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from enum import Enum

import attrs

from wanflow.files.lock import HeldLocks
from wanflow.files.run_files import BATCH_REQUEST
from wanflow.watch.batch_card import BatchCard, is_batch_folder, read_batch
from wanflow.watch.run_card import RunCard, is_run, read_card
from wanflow.watch.tree import Parts, Tree, open_in

MOST_DEPTH = 4
MOST_FOLDERS = 50_000
_PAUSE = 1.0  # seconds between two looks, more where a look takes long
_SHARE = 0.1  # of the time is spent looking, at most
_SETTLES_NS = 2_000_000_000  # a later change within a clock's tick would leave the time as it is


class FolderKind(Enum):
    """What a folder is."""

    RUN = "run"
    BATCH = "batch"
    OTHER = "other"


@attrs.define
class Seen:
    """A folder as it was when it was last looked into."""

    kind: FolderKind
    inode: int
    changed_ns: int
    looked_ns: int
    lock_inode: int
    locked: bool
    inner: tuple[str, ...]
    card: RunCard | BatchCard | None

    def is_as_it_was(self, there: os.stat_result) -> bool:
        """Whether nothing was made, renamed or removed in it since."""
        same = (self.inode, self.changed_ns) == (there.st_ino, there.st_mtime_ns)
        return same and self.looked_ns - self.changed_ns > _SETTLES_NS


def key_of(parts: Parts) -> str:
    """Give the key of a folder: the same as long as it is called the same."""
    path = "/".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.blake2s(path, digest_size=8).hexdigest()


@attrs.define
class Shelf:
    """What lies in a folder. Asked from several threads; one looks, and the others wait for it."""

    tree: Tree
    version: int = attrs.field(default=0, init=False)
    full: bool = attrs.field(default=False, init=False)  # there are more folders than are kept
    _seen: dict[Parts, Seen] = attrs.field(factory=dict, init=False)
    _cards: dict[str, RunCard | BatchCard] = attrs.field(factory=dict, init=False)
    _runs: list[RunCard] = attrs.field(factory=list, init=False)
    _batches: list[BatchCard] = attrs.field(factory=list, init=False)
    _next: float = attrs.field(default=0.0, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def refresh(self) -> None:
        """Look, if it is time to; OSError where the folder itself can't be read."""
        with self._lock:
            began = time.monotonic()
            if began >= self._next:
                self._look()
                ended = time.monotonic()
                self._next = ended + max(_PAUSE, (ended - began) / _SHARE)

    def runs(self) -> list[RunCard]:
        """Give all runs, the newest first, those of batches too."""
        return self._runs

    def batches(self) -> list[BatchCard]:
        """Give all batches, the newest first."""
        return self._batches

    def run(self, key: str) -> RunCard | None:
        """Find a run by its key."""
        card = self._cards.get(key)
        return card if isinstance(card, RunCard) else None

    def batch(self, key: str) -> BatchCard | None:
        """Find a batch by its key."""
        card = self._cards.get(key)
        return card if isinstance(card, BatchCard) else None

    def _look(self) -> None:
        found = dict(_Look(self.tree, self._seen, HeldLocks.now()).all())
        cards = {parts: seen.card for parts, seen in found.items() if seen.card is not None}
        before = {parts: seen.card for parts, seen in self._seen.items() if seen.card is not None}
        self._seen, self.full = found, len(found) >= MOST_FOLDERS
        if cards == before and self.version:
            return
        self._cards = {card.key: card for card in cards.values()}
        runs = [card for card in cards.values() if isinstance(card, RunCard)]
        batches = [card for card in cards.values() if isinstance(card, BatchCard)]
        self._runs = sorted(runs, key=lambda run: (-run.began, run.name))
        self._batches = sorted(batches, key=lambda batch: (-batch.began, batch.name))
        self.version += 1


@attrs.define
class _Look:
    """One look at everything, with what was *seen* before."""

    tree: Tree
    seen: dict[Parts, Seen]
    locks: HeldLocks
    left: int = MOST_FOLDERS

    def all(self) -> Iterator[tuple[Parts, Seen]]:
        with self.tree.folder(()) as root:
            yield from self._visit(root, (), os.fstat(root), "")

    def _visit(
        self, folder: int, parts: Parts, there: os.stat_result, batch: str
    ) -> Iterator[tuple[Parts, Seen]]:
        """Look at an open folder and at what is in it."""
        self.left -= 1
        seen = self.seen.get(parts)
        if seen is None or not seen.is_as_it_was(there) or self._lock_changed(folder, seen):
            seen = self._examine(folder, parts, there, batch)
        yield parts, seen
        if seen.kind is FolderKind.RUN or len(parts) >= MOST_DEPTH:
            return
        key = key_of(parts) if seen.kind is FolderKind.BATCH else ""
        for name in seen.inner:
            if self.left <= 0:
                return
            yield from self._inner(folder, parts, name, key)

    def _inner(
        self, folder: int, parts: Parts, name: str, batch: str
    ) -> Iterator[tuple[Parts, Seen]]:
        try:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(there.st_mode):
                return
            path = (*parts, name)
            seen = self.seen.get(path)
            known = seen is not None and seen.kind is FolderKind.RUN and seen.is_as_it_was(there)
            if known and seen is not None and not self._may_have_changed(seen):
                self.left -= 1
                yield path, seen
                return
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(name, flags, dir_fd=folder)
        except OSError:  # it went away, or is not for us to read
            return
        try:
            yield from self._visit(handle, path, there, batch)
        finally:
            os.close(handle)

    def _may_have_changed(self, seen: Seen) -> bool:
        """Whether the lock may be held where it was not, or the other way round."""
        return seen.locked or self.locks.may_have(seen.lock_inode)

    def _lock_changed(self, folder: int, seen: Seen) -> bool:
        return self._may_have_changed(seen) and self._locked(folder)[1] != seen.locked

    def _locked(self, folder: int) -> tuple[int, bool]:
        """The inode of a folder's lock, 0 where there is none, and whether it is held."""
        try:
            handle = open_in(folder, "lock")
        except OSError:
            return 0, False
        try:
            return os.fstat(handle).st_ino, self.locks.has(handle)
        finally:
            os.close(handle)

    def _examine(self, folder: int, parts: Parts, there: os.stat_result, batch: str) -> Seen:
        looked_ns = time.time_ns()
        names: set[str] = set()
        inner: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                names.add(entry.name)
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    inner.append(entry.name)
        lock_inode, locked = self._locked(folder)
        kind = FolderKind.OTHER
        card: RunCard | BatchCard | None = None
        if is_batch_folder(names):
            kind = FolderKind.BATCH
            began = _born(folder, BATCH_REQUEST)
            card = read_batch(folder, parts, key_of(parts), began, running=locked)
        elif is_run(names):
            kind = FolderKind.RUN
            card = read_card(folder, parts, key_of(parts), batch, names, running=locked)
        return Seen(
            kind, there.st_ino, there.st_mtime_ns, looked_ns, lock_inode, locked,
            () if kind is FolderKind.RUN else tuple(sorted(inner)), card,
        )  # fmt: skip


def _born(folder: int, name: str) -> float:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
    except OSError:
        return 0.0
