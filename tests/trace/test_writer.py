"""The writer: what it makes, what it refuses, and that it never stops the run."""

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import msgpack
import pytest

from wanflow.errors import InputError
from wanflow.trace import MemorySink, State, Tee, TraceSink, TraceWriter, inspect, read
from wanflow.trace.events import Event, Note, Step


def trailer(path: Path) -> dict[str, Any]:
    """Read the trailer, which must be there."""
    found = inspect(path).trailer
    assert found is not None
    return found


def emit_all(sink: TraceSink, events: Iterable[Event]) -> None:
    """Emit one event after the other."""
    for event in events:
        sink.emit(event)


class TestFile:
    """What the file holds, and when."""

    def test_plain_msgpack_reads_it(self, write, run, header) -> None:
        """A header map, checked records, a trailer map: no code of ours needed."""
        with write(run, header).open("rb") as file:
            first, *records, last = msgpack.Unpacker(file)
        rows = [msgpack.unpackb(payload) for _, payload in records]

        assert (first["format"], first["version"]) == ("wanflow-trace", 1)
        assert first["graph"] == "t2v-1.3b"
        assert len(rows) == len(run) == last["records"]
        assert (last["status"], last["totals"]) == ("done", {"seconds": 1.5})
        named = dict(zip(first["fields"][rows[0][0]], rows[0][1:], strict=True))
        assert named["resident_bytes"] == run[0].resident_bytes

    def test_readable_before_it_is_closed(self, tmp_path, numbered) -> None:
        """What came up to the end of a step is in the file; nothing longer than a moment waits."""
        with TraceWriter(tmp_path / "t", {}) as writer:
            for number in range(3):
                writer.emit(numbered(number))
            assert writer.records == 3
            writer.emit(Step("denoise", 0, 2, 0, 1, 0, 0))
            assert len(list(read(tmp_path / "t"))) == writer.records == 4
            writer.emit(numbered(4))
            time.sleep(0.03)
            writer.emit(numbered(5))
            assert len(list(read(tmp_path / "t"))) == writer.records == 6
            writer.emit(numbered(6))
            writer.sync()
            assert len(list(read(tmp_path / "t"))) == writer.records == 7

    def test_context_says_how_it_ended(self, tmp_path) -> None:
        """Done, or failed when an error passes by."""
        with TraceWriter(tmp_path / "good", {}):
            pass
        with pytest.raises(KeyError), TraceWriter(tmp_path / "bad", {}):
            raise KeyError

        assert [trailer(tmp_path / n)["status"] for n in ("good", "bad")] == [
            "done",
            "failed",
        ]

    def test_closing_again_changes_nothing(self, tmp_path, numbered) -> None:
        """The first status stays, and later events go nowhere."""
        writer = TraceWriter(tmp_path / "t", {})
        writer.close("interrupted", {})
        writer.close("done", {})
        writer.emit(numbered(1))
        writer.sync()

        found = inspect(tmp_path / "t")
        assert (found.state, trailer(tmp_path / "t")["status"]) == (State.WHOLE, "interrupted")
        assert found.records == 0

    def test_threads_may_emit(self, tmp_path, numbered) -> None:
        """Records of several threads do not mix."""
        writer = TraceWriter(tmp_path / "t", {})
        threads = [
            threading.Thread(target=emit_all, args=(writer, map(numbered, range(500))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.close("done", {})

        assert inspect(tmp_path / "t").records == 2000


class TestRefusals:
    """What the writer does not start on."""

    def test_existing_file(self, tmp_path) -> None:
        """Nothing is overwritten unasked; the message says what would."""
        (tmp_path / "t").write_text("mine")

        with pytest.raises(InputError, match="exists") as caught:
            TraceWriter(tmp_path / "t", {})

        assert "--force" in caught.value.hint
        assert (tmp_path / "t").read_text() == "mine"

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_link(self, tmp_path, overwrite) -> None:
        """A link is not followed, whoever planted it."""
        (tmp_path / "target").write_text("mine")
        (tmp_path / "t").symlink_to(tmp_path / "target")

        with pytest.raises(InputError):
            TraceWriter(tmp_path / "t", {}, overwrite=overwrite)

        assert (tmp_path / "target").read_text() == "mine"

    def test_missing_folder(self, tmp_path) -> None:
        """The path that can't be made is named."""
        with pytest.raises(InputError, match="no/t"):
            TraceWriter(tmp_path / "no" / "t", {})

    @pytest.mark.parametrize("key", ["format", "version", "fields", "crc32"])
    def test_reserved_header_key(self, tmp_path, key) -> None:
        """What the format writes itself can't be given."""
        with pytest.raises(ValueError, match=key):
            TraceWriter(tmp_path / "t", {key: 1})
        assert not (tmp_path / "t").exists()


class TestTheRunGoesOn:
    """What goes wrong with a trace stays with the trace."""

    def test_event_that_no_reader_takes_is_left_out(self, tmp_path, numbered) -> None:
        """One bad event costs itself, not those after it, and is not silent."""
        writer = TraceWriter(tmp_path / "t", {})
        for event in (
            numbered(0),
            attrs.evolve(numbered(1), waited_ns=-5),
            attrs.evolve(numbered(2), nbytes=2**64),
            Note("long", "x" * 65_537, 0),
            Note("longer", "x" * 300_000, 0),
            numbered(5),
        ):
            writer.emit(event)
        writer.close("done", {})

        assert [numbered(0), numbered(5)] == list(read(tmp_path / "t"))
        assert trailer(tmp_path / "t")["dropped"] == 4
        assert "waited_ns is negative" in (writer.problem or "")

    def test_totals_that_are_not_plain_are_left_out(self, tmp_path) -> None:
        """A run that was fine does not fail over a figure of its trailer."""
        writer = TraceWriter(tmp_path / "t", {})
        writer.close("done", {"seconds": float("nan")})

        assert trailer(tmp_path / "t")["totals"] == {}
        assert "totals" in (writer.problem or "")

    def test_device_that_is_full(self, numbered) -> None:
        """Even with no room for the header the run goes on."""
        with TraceWriter(Path("/dev/full"), {}, overwrite=True) as writer:
            writer.emit(numbered(1))

        assert "No space left" in (writer.problem or "")

    @pytest.mark.parametrize(("fits", "kept"), [(9, 1), (120, 2), (250, 3)])
    def test_short_write_is_cut_back(self, tmp_path, numbered, monkeypatch, fits, kept) -> None:
        """Half a record is taken away again, so that the file ends with a whole one."""
        writer = TraceWriter(tmp_path / "t", {})
        writer.emit(numbered(0))
        writer.sync()
        before = (tmp_path / "t").stat().st_size
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:fits]))

        for number in range(1, 5):
            writer.emit(numbered(number))
        writer.sync()
        monkeypatch.undo()
        writer.emit(numbered(5))
        writer.close("done", {})

        assert before <= (tmp_path / "t").stat().st_size <= before + fits
        found = inspect(tmp_path / "t")
        assert (found.state, found.records, found.lost_bytes) == (State.CUT, kept, 0)
        assert f"stops after {kept} events" in (writer.problem or "")

    def test_failing_fsync_is_told(self, tmp_path, monkeypatch) -> None:
        """The disk's refusal is a warning."""

        def refuse(fd: int) -> None:
            raise OSError(5, "Input/output error")

        writer = TraceWriter(tmp_path / "t", {})
        monkeypatch.setattr(os, "fsync", refuse)
        writer.close("done", {})

        assert "fsync: Input/output error" in (writer.problem or "")


class TestSinks:
    """Where else events may go."""

    def test_tee_gives_to_all(self, numbered) -> None:
        """Each sink gets each event, in order."""
        one, two = MemorySink(), MemorySink()
        tee = Tee((one, two))
        for number in range(3):
            tee.emit(numbered(number))

        assert [numbered(n) for n in range(3)] == one.events == two.events
