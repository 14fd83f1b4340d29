"""Download a repository of the hub: what a graph needs of it, at one commit, gone on if cut."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import attrs

from wanflow.errors import Interrupted, StageFailed, WeightsError
from wanflow.files.lock import locked
from wanflow.files.whole import FULL, make_folders, naming, replace_synced, unwritable
from wanflow.models.weights.hub import HubFile, Snapshot, fetch, is_same, look
from wanflow.models.weights.locate import downloads_folder
from wanflow.models.weights.pipeline import CONFIG, INDEX, check_class, check_pipeline
from wanflow.models.weights.wanted_files import wanted
from wanflow.session.weights.download_record import (
    STATE,
    Record,
    is_there,
    part_of,
    read_record,
    remove_stale,
    write_record,
)
from wanflow.session.weights.inspect import Inspected, inspect
from wanflow.units import format_bytes

_GOES_ON = "the same command goes on where it stopped"
# Graphs name a model's folder without saying in which layout it is.
_LAYOUT = re.compile(r"-diffusers$", re.IGNORECASE)


@attrs.frozen
class FileTask:
    """What is to be fetched, and of it what is there; *part_bytes* came in an earlier try."""

    snapshot: Snapshot
    folder: Path
    files: tuple[HubFile, ...]
    record: Record
    there: frozenset[str]
    part_bytes: int

    @property
    def total_bytes(self) -> int:
        """All files, those that are there too."""
        return sum(file.nbytes for file in self.files)

    @property
    def missing_bytes(self) -> int:
        """What has still to come."""
        return sum(f.nbytes for f in self.files if f.path not in self.there) - self.part_bytes


class Watch(Protocol):
    """Who is told how a download goes on."""

    def start(self, task: FileTask) -> None:
        """Learn what is fetched, before the first byte."""

    def begin(self, file: HubFile) -> None:
        """Learn which file comes now."""

    def advance(self, nbytes: int) -> None:
        """Learn of bytes that came; below 0 where a server began again."""


@attrs.frozen
class Downloaded:
    """A finished download; *fetched_bytes* came over the line this time."""

    task: FileTask
    fetched_bytes: int
    inspected: Inspected


def download(repo: str, revision: str | None, to: Path | None, watch: Watch) -> Downloaded:
    """Fetch what a graph needs of *repo* into *to*, or where graphs look for it by its name.

    InputError: no such repository or revision, a folder that holds something else. WeightsError:
    offline, not let in, cut off, damaged, nothing that a graph needs. StageFailed: too little disk.
    Interrupted: Ctrl-C. After each of them the same call goes on.
    """
    try:
        snapshot = look(repo, revision)
        files = _wanted(snapshot)
        folder = to if to is not None else downloads_folder() / _LAYOUT.sub("", Path(repo).name)
        with TemporaryDirectory() as temporary:
            _check_whole(snapshot, files, folder, Path(temporary))
            with locked(_make(folder), option="--to"):
                task = _task(snapshot, folder, files)
                watch.start(task)
                _check_space(task)
                fetched = _fetch_all(task, watch, Path(temporary))
    except KeyboardInterrupt:
        raise Interrupted("stopped", hint=_GOES_ON) from None
    except OSError as error:  # of the folder for what is looked at first
        raise _unwritable(folder, error) from None
    return Downloaded(task, fetched, inspect(folder))


def free_bytes(folder: Path) -> int:
    """What the disk of *folder* has free."""
    return shutil.disk_usage(folder).free


def _wanted(snapshot: Snapshot) -> tuple[HubFile, ...]:
    names = set(wanted(file.path for file in snapshot.files))
    if not names:
        raise WeightsError(
            f"{snapshot.repo}: no part of a model is there",
            hint="a repository in the layout of diffusers or of Wan is wanted",
            code="missing-weights",
        )
    return tuple(file for file in snapshot.files if file.path in names)


def _check_whole(
    snapshot: Snapshot, files: Sequence[HubFile], folder: Path, looked_at: Path
) -> None:
    """WeightsError where *files* would be a part of a model that no graph runs.

    What says so, if it is not in *folder*, comes into *looked_at* for it.
    """
    for file in snapshot.files:
        if file.path not in (INDEX, CONFIG):
            continue
        with naming(looked_at / file.path):
            if (folder / file.path).is_file() and is_same(folder / file.path, file):
                shutil.copyfile(folder / file.path, looked_at / file.path)
            else:
                fetch(snapshot, file, looked_at / file.path, lambda _: None)
    check_pipeline(looked_at, snapshot.repo)
    check_class("transformer", looked_at, snapshot.repo)
    for file in snapshot.files:
        if fnmatchcase(file.path, "Wan*_VAE.*") and not any("vae" in f.path.lower() for f in files):
            raise WeightsError(
                f"{snapshot.repo}: its autoencoder is {file.path}, which no graph here runs",
                hint="take a model of Wan 2.1 or 2.2",
                code="other-pipeline",
            )


def _make(folder: Path) -> Path:
    state = folder / STATE
    try:
        make_folders(state)
    except OSError as error:
        raise unwritable(folder, error, code="out-unwritable", what="--to ") from None
    return state


def _task(snapshot: Snapshot, folder: Path, files: tuple[HubFile, ...]) -> FileTask:
    record = read_record(folder, snapshot.repo)
    there = frozenset(file.path for file in files if is_there(folder, file, record))
    part_bytes = 0
    for file in files:
        part = part_of(folder, file)
        if file.path not in there and part.exists():
            part_bytes += part.stat().st_size
    return FileTask(snapshot, folder, files, record, there, part_bytes)


def _check_space(task: FileTask) -> None:
    free = free_bytes(task.folder)
    if free < task.missing_bytes:
        raise StageFailed(
            f"{task.folder}: {format_bytes(task.missing_bytes)} have to come, "
            f"{format_bytes(free)} are free",
            hint="free some space, or give a folder on another disk: --to FOLDER",
            code="disk-full",
            detail={"needed_bytes": task.missing_bytes, "free_bytes": free},
        )


def _fetch_all(task: FileTask, watch: Watch, looked_at: Path) -> int:
    """Fetch file after file, each recorded once it is whole; the bytes that came.

    *looked_at* has what came before.
    """
    fetched = 0

    def advance(nbytes: int) -> None:
        nonlocal fetched
        fetched += nbytes
        watch.advance(nbytes)

    done = dict(task.record.files)
    done |= {file.path: file for file in task.files if file.path in task.there}
    write_record(task.folder, task.snapshot, done)
    for file in task.files:
        if file.path not in task.there:
            watch.begin(file)
            _bring(task, file, looked_at, advance)
            done[file.path] = file
            write_record(task.folder, task.snapshot, done)
    files = {file.path: file for file in task.files}
    remove_stale(task.folder, task.record, files)
    write_record(task.folder, task.snapshot, files)
    return fetched


def _bring(task: FileTask, file: HubFile, looked_at: Path, advance: Callable[[int], None]) -> None:
    """Have a file in its place, from *looked_at* or over the line; StageFailed names it."""
    part = part_of(task.folder, file)
    try:
        with naming(part):
            if (looked_at / file.path).is_file():
                shutil.copyfile(looked_at / file.path, part)
                advance(file.nbytes)
            else:
                _fetch(task, file, part, advance)
            _put(task, file, part)
    except OSError as error:
        raise _unwritable(task.folder, error) from None


def _fetch(task: FileTask, file: HubFile, part: Path, advance: Callable[[int], None]) -> None:
    """Fetch a file, or the rest of it."""
    if part.exists() and part.stat().st_size > file.nbytes:
        part.unlink()
    fetch(task.snapshot, file, part, advance)


def _put(task: FileTask, file: HubFile, part: Path) -> None:
    """Move a file that came to its place, if it is what was promised."""
    path = task.folder / file.path
    if not is_same(part, file):
        part.unlink()
        raise WeightsError(
            f"{path}: came damaged: its digest is not the hub's",
            hint="the same command fetches this file again",
            code="damaged-download",
        )
    make_folders(path.parent)
    replace_synced(part, path)


def _unwritable(folder: Path, error: OSError) -> StageFailed:
    if error.errno in FULL:
        hint = f"free some space; {_GOES_ON}"
        return StageFailed(f"the disk is full: {folder}", hint=hint, code="disk-full")
    return unwritable(Path(error.filename or folder), error)
