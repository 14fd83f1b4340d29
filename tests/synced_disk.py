"""A disk of which is known what a power cut would leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.campaign.forks import new_disk
from scripts.campaign.unsynced import Synced


def synced_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Synced:
    """An empty disk, watched; of another one than the caches."""
    for name in ("fsync", "mkdir"):
        monkeypatch.setattr(os, name, getattr(os, name))  # put back after `listen`
    found = Synced(new_disk(tmp_path / "disk"))
    found.begin()
    found.listen()
    return found
