"""A disk at a power cut: what no fsync asked for is there, or not, or torn.

The model is POSIX's: a file's bytes are sure after its fsync, a name in a folder after the
folder's. Each fsync of a child is noted beside the disk before it is answered; at the cut the disk
is made anew from the notes and from what was there.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
from pathlib import Path

import attrs

from scripts.campaign.forks import Disk

Names = dict[str, tuple[int, bool]]  # of a folder: inodes by name, and which are folders


@attrs.frozen
class Synced:
    """What of a disk is sure, in a folder of notes beside it."""

    disk: Disk

    @property
    def notes(self) -> Path:
        """Where it is noted."""
        return self.disk.root.with_suffix(".synced")

    def begin(self) -> None:
        """All that is there now is sure."""
        shutil.rmtree(self.notes, ignore_errors=True)
        for name in ("bytes", "folders", "alive"):
            (self.notes / name).mkdir(parents=True)
        self._note_folder(self.disk.root)
        for path in self.disk.root.rglob("*"):
            about = path.lstat()
            if stat.S_ISDIR(about.st_mode):
                self._note_folder(path)
            elif stat.S_ISREG(about.st_mode):
                self._note_bytes(path, about.st_ino)

    def listen(self) -> None:
        """Note each fsync of this process from now on, and folders that are made."""
        synced, made, root = os.fsync, os.mkdir, self.disk.root.resolve()

        def fsync(handle: int) -> None:
            synced(handle)
            path = Path(f"/proc/self/fd/{handle}").readlink()
            if path.is_relative_to(root):
                if path.is_dir():
                    self._note_folder(path)
                else:
                    self._note_bytes(path, os.fstat(handle).st_ino)

        def mkdir(path: str | Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            made(path, mode, dir_fd=dir_fd)
            if dir_fd is None and Path(path).resolve().is_relative_to(root):
                self._forget_folder(Path(path).stat().st_ino)

        os.fsync, os.mkdir = fsync, mkdir  # type: ignore[assignment]

    def cut(self, choice: random.Random, keeps: float | None = None) -> None:
        """Have the disk be what the power cut left of it.

        *keeps* is how likely something unsure is there; with 0 all of it is lost.
        """
        share = choice.choice((0.0, 0.0, 0.5, 0.9)) if keeps is None else keeps
        after = self.disk.root.with_suffix(".after")
        shutil.rmtree(after, ignore_errors=True)
        _Cut(self.notes, choice, share, _inodes(self.disk.root)).make(self.disk.root, after)
        shutil.rmtree(self.disk.root)
        after.rename(self.disk.root)
        self.begin()

    def remove(self) -> None:
        """Take the notes away."""
        shutil.rmtree(self.notes, ignore_errors=True)

    def _note_folder(self, path: Path) -> None:
        _put(self.notes / "folders" / str(path.stat().st_ino), json.dumps(_names(path)).encode())

    def _forget_folder(self, number: int) -> None:
        """A folder that was removed had the number of a new one: its name is not that one's."""
        (self.notes / "folders" / str(number)).unlink(missing_ok=True)
        for note in (self.notes / "folders").iterdir():
            names: Names = json.loads(note.read_bytes())
            kept = {name: about for name, about in names.items() if about[0] != number}
            if kept != names:
                _put(note, json.dumps(kept).encode())

    def _note_bytes(self, path: Path, number: int) -> None:
        alive = self.notes / "alive" / str(number)  # so that no other file gets its number
        if not alive.exists():
            os.link(path, alive)
        _put(self.notes / "bytes" / str(number), path.read_bytes())


def _put(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.new")
    part.write_bytes(content)
    part.replace(path)


def _names(folder: Path) -> Names:
    return {entry.name: (entry.inode(), _is_folder(entry)) for entry in os.scandir(folder)}


def _is_folder(path: Path | os.DirEntry[str]) -> bool:
    return path.is_dir() and not path.is_symlink()


def _inodes(root: Path) -> dict[int, Path]:
    return {path.lstat().st_ino: path for path in [root, *root.rglob("*")]}


@attrs.frozen
class _Cut:
    """One power cut."""

    notes: Path
    choice: random.Random
    keeps: float
    there: dict[int, Path]

    def make(self, folder: Path, after: Path) -> None:
        """Make a folder as it was left."""
        after.mkdir()
        for name, (number, was_folder) in self._left(folder).items():
            path = self.there.get(number)
            if was_folder != (path is not None and _is_folder(path)):
                continue  # a removed one, whose number another has now
            if path is not None and path.is_symlink():
                (after / name).symlink_to(path.readlink())
            elif path is not None and was_folder:
                self.make(path, after / name)
            elif path is not None or (self.notes / "alive" / str(number)).exists():
                (after / name).write_bytes(self._content(number, path))

    def _left(self, folder: Path) -> Names:
        now = _names(folder)
        noted = self.notes / "folders" / str(folder.stat().st_ino)
        sure: Names = json.loads(noted.read_bytes()) if noted.exists() else {}
        found = {}
        for name in sorted({*now, *sure}):
            about = (now if self.choice.random() < self.keeps else sure).get(name)
            if about is not None:
                found[name] = about
        return found

    def _content(self, number: int, path: Path | None) -> bytes:
        noted = self.notes / "bytes" / str(number)
        sure = noted.read_bytes() if noted.exists() else b""
        now = (path or self.notes / "alive" / str(number)).read_bytes()
        if now == sure or self.choice.random() < self.keeps / 2:
            return now
        if not self.keeps or not now.startswith(sure):
            return sure
        torn = now[: self.choice.randint(len(sure), len(now))]
        zeros = bytes(len(now) - len(torn)) if self.choice.random() < 0.5 else b""
        return torn + zeros
