"""What is seen while weights come."""

import io
import sys
from pathlib import Path

import pytest

from wanflow.cli import download_progress
from wanflow.cli.download_progress import Bar, DownloadLines, Silent, watch
from wanflow.models.weights.hub import HubFile, Snapshot
from wanflow.session.weights.download import FileTask
from wanflow.session.weights.download_record import Record

MIB = 2**20
FILES = (HubFile("config.json", 100, "0" * 40), HubFile("vae/x\x1b[2J.pth", 64 * MIB, "1" * 64))


@pytest.fixture
def task():
    snapshot = Snapshot("a/b", "main", "c0ffee", FILES)
    there = frozenset({"config.json"})
    return FileTask(snapshot, Path("/models/b"), FILES, Record("a/b", {}), there, 16 * MIB)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestWatch:
    def test_terminal(self, monkeypatch):
        """A bar where it can be drawn."""
        monkeypatch.setattr(sys, "stderr", Terminal())
        with watch(silent=False) as shown:
            assert isinstance(shown, Bar)

    def test_file(self, monkeypatch):
        """Lines where it can't."""
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        with watch(silent=False) as shown:
            assert isinstance(shown, DownloadLines)

    def test_silent(self):
        """Nothing for a program."""
        with watch(silent=True) as shown:
            assert isinstance(shown, Silent)


class TestLines:
    def test_now_and_then(self, task, monkeypatch, capsys):
        """The pin, each file, and a line when ten seconds have gone by."""
        now = 100.0
        monkeypatch.setattr(download_progress.time, "monotonic", lambda: now)
        lines = DownloadLines()
        lines.start(task)
        lines.begin(FILES[1])
        lines.advance(8 * MIB)
        now = 110.0
        lines.advance(8 * MIB)
        lines.advance(8 * MIB)
        assert capsys.readouterr().err.splitlines() == [
            "a/b at main, which is commit c0ffee",
            "2 files, 64.0 MiB, 16.0 MiB of it there, into /models/b",
            r"vae/x\x1b[2J.pth, 64.0 MiB",
            "32.0 MiB of 64.0 MiB, 1.60 MiB/s, 20.0 s left",
        ]


class TestBar:
    def test_drawn(self, task, monkeypatch):
        """The pin stays, the bar names the file that comes and begins where it was left."""
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.delenv("NO_COLOR")
        with watch(silent=False) as bar:
            bar.start(task)
            bar.begin(FILES[1])
            bar.advance(16 * MIB)
        said = terminal.getvalue()
        assert said.startswith("a/b at main, which is commit c0ffee\n")
        assert r"vae/x\x1b[2J.pth" in said
        assert "32.0/64.0 MiB" in said
