"""Who holds a folder, asked without taking its lock."""

import fcntl
import os

import pytest

from wanflow.files import lock
from wanflow.files.lock import HeldLocks, is_locked, locked


@pytest.fixture
def handle(tmp_path):
    """A lock's file, open as one that looks has it."""
    (tmp_path / "lock").touch()
    opened = os.open(tmp_path / "lock", os.O_RDONLY)
    yield opened
    os.close(opened)


@pytest.mark.parametrize("listed", [True, False])
class TestHeldLocks:
    """By the system's list, and where there is none by a try."""

    @pytest.fixture(autouse=True)
    def _list(self, listed, tmp_path, monkeypatch):
        if not listed:
            monkeypatch.setattr(lock, "_LIST", tmp_path / "none")

    def test_held_and_let_go(self, tmp_path, handle) -> None:
        """As long as it is held."""
        inode = os.fstat(handle).st_ino
        with locked(tmp_path):
            assert is_locked(tmp_path)
            assert HeldLocks.now().has(handle)
            assert HeldLocks.now().may_have(inode)
        assert not is_locked(tmp_path)
        assert not HeldLocks.now().has(handle)

    def test_other_locks(self, tmp_path, handle) -> None:
        """Those that are shared, and those of other files, are none."""
        with (tmp_path / "lock").open() as shared, (tmp_path / "other").open("w") as other:
            fcntl.flock(shared, fcntl.LOCK_SH)
            fcntl.flock(other, fcntl.LOCK_EX)
            assert not HeldLocks.now().has(handle)

    def test_none(self, tmp_path) -> None:
        """A folder without one is not held."""
        assert not is_locked(tmp_path)
        assert not is_locked(tmp_path / "none")


def test_listed_under_another_device(tmp_path, handle, monkeypatch) -> None:
    """Some file systems are: then the inode is asked about once more, by a try."""
    listed = tmp_path / "locks"
    listed.write_text(f"1: FLOCK  ADVISORY  WRITE 1 ff:ff:{os.fstat(handle).st_ino} 0 EOF\n")
    monkeypatch.setattr(lock, "_LIST", listed)
    assert not HeldLocks.now().has(handle)
    with locked(tmp_path):
        assert HeldLocks.now().has(handle)
