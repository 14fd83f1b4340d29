"""The model of a power cut: what was synced is there, what was not is lost."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

from scripts.campaign.forks import Disk, new_disk
from scripts.campaign.unsynced import Synced
from wanflow.files.preview_files import write_preview
from wanflow.files.whole import sync_file, writing

CHOICE = random.Random(1)  # noqa: S311 - a fixed choice


@pytest.fixture
def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Synced:
    """A disk with one old file, watched."""
    disk = new_disk(tmp_path / "disk")
    (disk.work / "old").write_text("before")
    for name in ("fsync", "mkdir"):
        monkeypatch.setattr(os, name, getattr(os, name))  # put back after `listen`
    found = Synced(disk)
    found.begin()
    found.listen()
    return found


def left(disk: Disk) -> dict[str, str]:
    """All files by name."""
    paths = (path for path in disk.work.rglob("*") if path.is_file())
    return {path.relative_to(disk.work).as_posix(): path.read_text() for path in paths}


def test_what_was_not_synced_is_lost(synced: Synced) -> None:
    """New bytes, new names, and names that were taken away."""
    work = synced.disk.work
    (work / "old").write_text("after")
    (work / "new").write_text("x")
    synced.cut(CHOICE, keeps=0)
    assert left(synced.disk) == {"old": "before"}
    (work / "old").unlink()
    synced.cut(CHOICE, keeps=0)
    assert left(synced.disk) == {"old": "before"}


def test_a_file_without_its_name_is_lost(synced: Synced) -> None:
    """Its bytes were synced, its folder was not."""
    (synced.disk.work / "new").write_text("x")
    sync_file(synced.disk.work / "new")
    synced.cut(CHOICE, keeps=0)
    assert left(synced.disk) == {"old": "before"}


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_that_appears_whole(synced: Synced, *, sync: bool) -> None:
    """It is there with its bytes; where nothing was synced the old one is."""
    with writing(synced.disk.work / "old", sync=sync) as part:
        part.write_text("after")
    synced.cut(CHOICE, keeps=0)
    assert left(synced.disk) == {"old": "after" if sync else "before"}


def test_a_preview_is_whole(synced: Synced) -> None:
    """Both files of the last one: the step that it is of is saved after it, and not made again."""
    for shade in (0, 200):
        write_preview(synced.disk.work, np.full((2, 16, 16, 3), shade, np.uint8), 100)
    made = {path.name: path.read_bytes() for path in synced.disk.work.glob("preview.*")}
    synced.cut(CHOICE, keeps=0)
    assert {p.name: p.read_bytes() for p in synced.disk.work.glob("preview.*")} == made
    assert len(made) == 2


def test_a_folder_without_its_name_is_lost(synced: Synced) -> None:
    """What was synced in it goes with it."""
    (synced.disk.work / "inner").mkdir()
    with writing(synced.disk.work / "inner" / "new") as part:
        part.write_text("x")
    synced.cut(CHOICE, keeps=0)
    assert left(synced.disk) == {"old": "before"}


def test_what_is_torn_begins_as_it_was(synced: Synced) -> None:
    """Of a file that grows, what was synced is there, and after it what was written or zeros."""
    path, choice = synced.disk.work / "old", random.Random(4)  # noqa: S311 - the same
    seen = set()
    for _ in range(40):
        sure = path.read_bytes()
        with path.open("ab") as file:
            file.write(b"0123456789")
        synced.cut(choice, keeps=0.5)
        now = path.read_bytes()
        assert now.startswith(sure)
        added = now[len(sure) :]
        assert b"0123456789".startswith(added.rstrip(b"\0"))
        seen.add(len(added.rstrip(b"\0")))
    assert {0, 10} < seen
