"""Traces that the system doesn't read, and traces that another file takes the place of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wanflow.cli import main
from wanflow.errors import InputError, TraceError
from wanflow.trace import TraceReader, read
from wanflow.trace.exports import export
from wanflow.trace.unreplaced import unreplaced

BROKEN = Path("/proc/self/mem")  # a file that is opened, and whose first bytes are an I/O error


def _fail(events) -> None:
    for _ in events:
        raise OSError("mine")


def _read_while(other, path, error) -> None:
    with unreplaced(path):
        other.replace(path)
        if error is not None:
            raise error


class TestBroken:
    """An I/O error."""

    def test_header(self) -> None:
        """Told with the file, as one that can't be opened."""
        with pytest.raises(InputError, match="can't read trace /proc/self/mem: Input/output"):
            TraceReader(BROKEN)

    def test_events(self, write, numbered) -> None:
        """Of a trace whose header was read."""
        with TraceReader(write(map(numbered, range(5)))) as reader, BROKEN.open("rb") as broken:
            os.dup2(broken.fileno(), reader._file.fileno())
            with pytest.raises(
                InputError, match=r"can't read trace .*trace\.msgpack: Input/output"
            ):
                list(reader)

    def test_of_whoever_reads(self, write, numbered) -> None:
        """What goes wrong with an event is not the trace's."""
        events = read(write(map(numbered, range(5))))
        with pytest.raises(OSError, match="mine"):
            _fail(events)

    @pytest.mark.parametrize("command", ["report", "summary", "peak", "check", "events"])
    def test_commands(self, command, capsys) -> None:
        """Exit 2, a line."""
        assert main.run(["trace", command, str(BROKEN)]) == 2
        assert "can't read trace /proc/self/mem: Input/output error" in capsys.readouterr().err

    def test_export(self, tmp_path) -> None:
        """It is not the output that can't be written."""
        with pytest.raises(InputError, match="can't read trace"):
            export(BROKEN, "csv", tmp_path / "out.csv")
        assert not [*tmp_path.iterdir()]


class TestReplaced:
    """Another file of that name."""

    def test_told(self, tmp_path) -> None:
        """Whether what was made of it ended well or not."""
        path, other = tmp_path / "trace.msgpack", tmp_path / "other"
        for error in (None, StopIteration()):
            path.write_text("long")
            other.write_text("sh")
            with pytest.raises(TraceError, match="was replaced by another file") as told:
                _read_while(other, path, error)
            assert told.value.exit_code == 4

    def test_the_same(self, tmp_path) -> None:
        """One that grows, and one that is wrong by itself."""
        path = tmp_path / "trace.msgpack"
        path.write_text("a")
        with unreplaced(path):
            path.write_text("ab")
        with pytest.raises(ValueError, match="mine"), unreplaced(path):
            raise ValueError("mine")
        with pytest.raises(InputError), unreplaced(tmp_path / "none"):
            TraceReader(tmp_path / "none")
