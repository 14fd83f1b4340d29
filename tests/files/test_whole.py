"""Files appear whole, or the old one stays."""

import errno
import json
import os
import subprocess
import sys

import pytest

from wanflow.errors import StageFailed
from wanflow.files import whole
from wanflow.files.whole import write_json, writing

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
            [sys.executable, "-c", LIMITED, whole.__file__, path],
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


@pytest.mark.parametrize("shared", [False, True])
class TestWriting:
    """A name is lent; what is put there replaces what was there."""

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "a.bin"
        path.write_bytes(b"before")
        return path

    def test_replaces(self, path, shared):
        """Only once the block has ended, and alone in its folder."""
        with writing(path, shared=shared) as part:
            part.write_bytes(b"after")
            assert path.read_bytes() == b"before"
        assert path.read_bytes() == b"after"
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("failure", [OSError, ValueError, KeyboardInterrupt])
    def test_failed(self, path, shared, failure):
        """What was there stays, and nothing else."""

        def write():
            with writing(path, shared=shared) as part:
                part.write_bytes(b"after")
                raise failure

        with pytest.raises(failure):
            write()
        assert path.read_bytes() == b"before"
        assert list(path.parent.iterdir()) == [path]

    def test_nothing_written(self, path, shared):
        """An own file that was not made replaces nothing; a shared one is there from the start."""
        if shared:
            with writing(path, shared=True, mode=0o600) as part:
                assert part.stat().st_mode & 0o777 == 0o600
            assert path.read_bytes() == b""
        else:
            with pytest.raises(FileNotFoundError), writing(path):
                pass
            assert path.read_bytes() == b"before"

    def test_long_names(self, tmp_path, shared):
        """There is room for the part's beside it, whatever the characters take."""
        path = tmp_path / ("\N{KITE}" * 62)
        with writing(path, shared=shared) as part:
            part.write_bytes(b"after")
        assert path.read_bytes() == b"after"

    def test_two_at_once(self, path, shared):
        """Of a shared file each process has a part of its own."""
        with writing(path, shared=shared) as one, writing(path, shared=True) as other:
            one.write_bytes(b"one")
            other.write_bytes(b"other")
            assert one != other
        assert path.read_bytes() == b"one"


def test_json_holds_the_name_of_any_file(tmp_path):
    """A byte that is no UTF-8 comes back as it went in."""
    path, name = tmp_path / "run.json", os.fsdecode(b"f\xff\xc3\xbc")
    write_json(path, {"video": name})
    assert json.loads(path.read_text(encoding="utf-8")) == {"video": name}


def _no_space(*_args, **_options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
