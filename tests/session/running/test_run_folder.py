"""The run folder: nothing is overwritten by accident."""

import errno
import os
from pathlib import Path

import pytest

from wanflow.errors import InputError, StageFailed
from wanflow.session import Request, resume, run
from wanflow.session.running.run_folder import check_links, make_folder


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


def _no_space(*_args, **_options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestLinks:
    """A folder that came from somebody else, with a link in it that leads out."""

    @pytest.mark.parametrize(
        "name",
        ["lock", "state", "video.mp4.part", "trace.msgpack", "state/index.json.part", "0001"],
    )
    def test_refused(self, tmp_path, name):
        """Whatever it is called: what is written would be written where it leads."""
        folder, outside = tmp_path / "run", tmp_path / "outside"
        (folder / "state").mkdir(parents=True)
        outside.mkdir()
        if name == "state":
            (folder / "state").rmdir()
        (folder / name).symlink_to(outside / "file" if "." in name else outside)
        with pytest.raises(InputError, match=rf"run/{name}: is a link") as told:
            check_links(folder)
        assert told.value.exit_code == 2

    def test_none(self, tmp_path):
        """A folder that is itself reached by a link is its owner's choice; files are files."""
        (tmp_path / "large" / "state").mkdir(parents=True)
        (tmp_path / "large" / "state" / "index.json").touch()
        (tmp_path / "run").symlink_to(tmp_path / "large")
        check_links(tmp_path / "run")

    def test_commands(self, tmp_path):
        """A run into it and one that goes on in it leave alone what the link leads to."""
        folder, outside = tmp_path / "run", tmp_path / "outside"
        outside.mkdir()
        (outside / "index.json").write_text("mine")
        folder.mkdir()
        (folder / "request.json").write_text(
            '{"request": {"graph": "t2v-tiny"}, "fingerprint": {}}'
        )
        (folder / "state").symlink_to(outside)
        (folder / "lock").symlink_to(tmp_path / "made")
        with pytest.raises(InputError, match="is a link"):
            resume(folder)
        request = Request("t2v-tiny", {"steps": 1, "frames": 1, "size": "32*32"}, device="cpu")
        with pytest.raises(InputError, match="is a link"):
            run(request, out=folder, force=True)
        assert [path.name for path in outside.iterdir()] == ["index.json"]
        assert not (tmp_path / "made").exists()
