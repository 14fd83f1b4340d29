"""A power cut loses what was not synced: what was said to be there, and saved steps, stay."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from scripts.campaign.forks import Disk
from scripts.campaign.unsynced import Synced
from tests.resuming import SMALL, cut_short, frames_of, resumed_frames
from tests.synced_disk import synced_disk
from wanflow.session.running import job
from wanflow.session.running.saved_state import Boundary, StateStore

CHOICE = random.Random(1)  # noqa: S311 - nothing is chosen: all that is unsure is lost


@pytest.fixture
def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Synced:
    """Watch an empty disk."""
    return synced_disk(tmp_path, monkeypatch)


def cut(synced: Synced) -> Disk:
    """Lose all that was not synced."""
    synced.cut(CHOICE, keeps=0)
    return synced.disk


def test_a_run_that_is_done_has_its_video(synced: Synced) -> None:
    """`run.json` says so; in a folder of two levels that were not there."""
    out = synced.disk.work / "runs" / "one"
    frames_of(SMALL, out)
    video = (out / "video.mp4").read_bytes()
    cut(synced)
    assert job.finished_report(out)
    assert (out / "video.mp4").read_bytes() == video


def test_a_saved_step_is_gone_on_from(synced: Synced) -> None:
    """The run goes on from it, not from the start."""
    out = cut_short(SMALL, synced.disk.work / "run", 2)
    saved = StateStore(out / "state").boundary()
    cut(synced)
    assert saved is not None
    assert StateStore(out / "state").boundary() == saved
    assert len(resumed_frames(out)) == 5


def test_a_folder_of_pictures(synced: Synced) -> None:
    """Each file of it."""
    from wanflow.files.whole import replace_synced
    from wanflow.stages.picture_folder import PictureFolder

    folder = PictureFolder(synced.disk.work / "frames.part")
    folder.write(torch.zeros(3, 16, 16, 3, dtype=torch.uint8).numpy())
    replace_synced(folder.folder, synced.disk.work / "frames")
    cut(synced)
    found = sorted((synced.disk.work / "frames").iterdir())
    assert [path.name for path in found] == ["00000.png", "00001.png", "00002.png"]
    assert all(path.stat().st_size for path in found)


def test_an_index_names_what_is_sure(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two names that nobody synced a power cut may leave the later: the index of a lost file."""
    folder = synced.disk.work / "state"
    store, sure, replace = StateStore(folder), [], Path.replace

    def replaced(part: Path, target: Path) -> Path:
        if target.name == "index.json":
            note = synced.notes / "folders" / str(folder.stat().st_ino)
            sure.append(set(json.loads(note.read_bytes())))
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", replaced)
    for step in range(3):
        store.save(Boundary("denoise", step), {"latents": (step, torch.ones(4))})
        index = json.loads((folder / "index.json").read_text())
        assert sure[-1] >= index["sha256"].keys()
