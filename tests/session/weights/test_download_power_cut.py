"""A power cut after a download: what is recorded is there with its bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from scripts.campaign.unsynced import Synced
from tests.hub import REPO, point_at, serving
from tests.synced_disk import synced_disk
from wanflow.files.folders import PACKAGE
from wanflow.session.weights.download import download


@pytest.fixture
def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Synced:
    """Watch an empty disk."""
    return synced_disk(tmp_path, monkeypatch)


class Unseen:
    """A download that nobody watches."""

    def start(self, task) -> None: ...
    def begin(self, file) -> None: ...
    def advance(self, nbytes) -> None: ...


def test_a_download_that_is_recorded(synced: Synced, tmp_path, monkeypatch) -> None:
    """A file of the right size is not looked into again: its bytes are there before its record."""
    tiny = PACKAGE / "bundled" / "wan-tiny"
    to = synced.disk.work / "got"
    with serving(tiny) as hub:
        point_at(hub.url, monkeypatch)
        download(REPO, None, to, Unseen())
        came = {path.relative_to(to): path.read_bytes() for path in to.rglob("*.safetensors")}
        synced.cut(random.Random(1), keeps=0)  # noqa: S311 - nothing is chosen
        kept = {path.relative_to(to): path.read_bytes() for path in to.rglob("*.safetensors")}
    assert came
    assert kept == came
