"""The run folder: nothing is overwritten by accident, small files appear whole."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wanflow.errors import InputError, StageFailed
from wanflow.session import folder
from wanflow.session.folder import make_folder, write_json

LIMITED = """
import resource, runpy, sys
from pathlib import Path
from wanflow.errors import StageFailed
write = runpy.run_path(sys.argv[1])["write_json"]
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write(Path(sys.argv[2]), ["x" * 9000])
except StageFailed as error:
    print(error.exit_code, error.message)
"""


class TestMakeFolder:
    """Making the folder of a run."""

    def test_default_name(self, tmp_path, monkeypatch):
        """Without `--out` it is runs/<graph>-<time>, another one for each run."""
        monkeypatch.chdir(tmp_path)
        found = [make_folder(None, "t2v-tiny", force=False) for _ in range(3)]
        assert len(set(found)) == 3
        assert all(f.is_dir() and str(f).startswith("runs/t2v-tiny-") for f in found)

    def test_made_with_parents(self, tmp_path):
        """Folders above it are made too."""
        assert make_folder(tmp_path / "a" / "b", "g", force=False).is_dir()

    def test_empty_is_used(self, tmp_path):
        """An empty folder needs no `--force`."""
        assert make_folder(tmp_path, "g", force=False) == tmp_path

    def test_not_empty(self, tmp_path):
        """A folder that holds anything is refused, exit 2."""
        (tmp_path / "mine").touch()
        with pytest.raises(InputError, match="is not empty") as caught:
            make_folder(tmp_path, "g", force=False)
        assert "--force" in caught.value.hint

    def test_force(self, tmp_path):
        """With `--force` it is used, and nothing in it is removed."""
        (tmp_path / "mine").touch()
        assert make_folder(tmp_path, "g", force=True) == tmp_path
        assert (tmp_path / "mine").exists()

    @pytest.mark.parametrize("force", [False, True])
    def test_file_in_the_way(self, tmp_path, force):
        """A file of that name is never replaced by a folder."""
        (tmp_path / "out").write_text("mine")
        with pytest.raises(InputError, match="is a file"):
            make_folder(tmp_path / "out", "g", force=force)
        assert (tmp_path / "out").read_text() == "mine"

    def test_file_above(self, tmp_path):
        """A file where a folder above should be is said in one line."""
        (tmp_path / "file").touch()
        with pytest.raises(StageFailed, match=r"--out .*/file/out: Not a directory"):
            make_folder(tmp_path / "file" / "out", "g", force=False)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_unwritable(self, tmp_path):
        """A folder that can't be written to is said in one line."""
        tmp_path.chmod(0o500)
        with pytest.raises(StageFailed, match="Permission denied"):
            make_folder(tmp_path / "out", "g", force=False)

    def test_disk_full(self, tmp_path, monkeypatch):
        """So is a disk without room for a folder."""
        monkeypatch.setattr(Path, "mkdir", _no_space)
        with pytest.raises(StageFailed, match="No space left on device"):
            make_folder(tmp_path / "out", "g", force=False)


class TestWriteJson:
    """Small files: the new one whole, or the old one."""

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "run.json"
        path.write_text('"before"')
        return path

    def test_written(self, path):
        """Text is kept as it is, and no part file is left."""
        write_json(path, {"prompt": "红色 🪁"})
        assert json.loads(path.read_text(encoding="utf-8")) == {"prompt": "红色 🪁"}
        assert "🪁" in path.read_text(encoding="utf-8")
        assert [p.name for p in path.parent.iterdir()] == ["run.json"]

    def test_file_size_limit(self, path):
        """At a limit of the system the old file stays, exit 1, no part file."""
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, folder.__file__, path],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == f"1 {path}: File too large\n"
        assert path.read_text() == '"before"'
        assert [p.name for p in path.parent.iterdir()] == ["run.json"]

    def test_disk_full(self, path, monkeypatch):
        """A disk that is full only when the file is synced is a failure too."""
        monkeypatch.setattr(os, "fsync", _no_space)
        with pytest.raises(StageFailed, match=r"run\.json: No space left on device"):
            write_json(path, "after")
        assert path.read_text() == '"before"'
        assert [p.name for p in path.parent.iterdir()] == ["run.json"]

    def test_no_folder(self, tmp_path):
        """A folder that is gone is said in one line."""
        with pytest.raises(StageFailed, match="No such file or directory"):
            write_json(tmp_path / "gone" / "run.json", {})


def _no_space(*_args, **_options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
