"""Where our own files are: the XDG base directories, and what there is without a home."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from wanflow import health
from wanflow.errors import InputError
from wanflow.files.folders import HOMELESS, cache_folder, config_folder, data_folder
from wanflow.models.weights.locate import downloads_folder
from wanflow.remarks import take_remarks
from wanflow.scheduler.machine import store


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user that has no name and no HOME."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "WANFLOW_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)


def test_a_variable_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where its path is absolute; a relative one counts as none, as the specification has it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert cache_folder() == Path("/elsewhere/wanflow")
    assert config_folder() == tmp_path / ".config/wanflow"


@pytest.mark.usefixtures("homeless")
class TestWithoutHome:
    """Nothing is read or written, and nothing ends for it but a download."""

    def test_folders_can_not_be(self) -> None:
        """As `doctor` says."""
        for folder in (cache_folder(), config_folder(), data_folder()):
            assert HOMELESS in folder.parents
            assert not health.folder(folder).writable

    def test_no_machine_is_stored(self) -> None:
        """The one there is, is estimated."""
        assert store.load("cpu") is None
        assert store.stored() == take_remarks() == []

    def test_a_download_needs_a_place(self) -> None:
        """It is asked for."""
        with pytest.raises(InputError, match="no home directory"):
            downloads_folder()


def test_a_file_where_a_folder_should_be_is_not_writable(tmp_path: Path) -> None:
    """Not even when the folder that it is in can be written."""
    (tmp_path / "file").touch()
    assert not health.folder(tmp_path / "file" / "wanflow").writable
    assert health.folder(tmp_path / "new" / "wanflow").writable


def test_a_machine_that_can_not_be_read_is_a_remark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As behind a folder of another user's: planning goes on with an estimate."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = store.path_of("cpu")
    path.mkdir(parents=True)
    take_remarks()
    assert store.load("cpu") is None
    assert take_remarks() == [f"the stored machine 'cpu' is not read: {path}: Is a directory"]
