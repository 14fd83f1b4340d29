"""The reader: what it makes of whole, cut, damaged and foreign files."""

import itertools
import os
import random
from pathlib import Path

import attrs
import msgpack
import pytest

from wanflow.errors import InputError
from wanflow.trace import State, TraceReader, inspect, read
from wanflow.trace.events import Note
from wanflow.trace.framing import frame, pack, seal


class TestWhole:
    """Files with their trailer."""

    def test_says_what_the_file_holds(self, write, numbered) -> None:
        """Header, trailer, counts; nothing lost."""
        path = write([numbered(n) for n in range(5)], {"graph": "g"})

        found = inspect(path)

        assert (found.state, found.records, found.skipped) == (State.WHOLE, 5, 0)
        assert (found.lost_bytes, found.problem) == (0, "")
        assert found.file_bytes == path.stat().st_size
        assert found.header["graph"] == "g"
        assert (found.trailer or {})["status"] == "done"

    def test_unknown_kinds_are_skipped_and_counted(self, tmp_path, write, numbered) -> None:
        """A trace of a later wanflow can be read for what is known."""
        whole = write([numbered(0)]).read_bytes()
        header = whole[: whole.index(b"\x92\xce")]
        body = frame(pack(["gossip", 1])) + whole[len(header) : whole.rindex(b"\xde")]
        (tmp_path / "later").write_bytes(header + body + seal({"records": 2, "status": "done"}))

        found = inspect(tmp_path / "later")

        assert (found.state, found.records, found.skipped) == (State.WHOLE, 1, 1)


class TestIteration:
    """How the events are taken."""

    def test_goes_on_where_it_was_left(self, write, numbered) -> None:
        """Who stops after two events and asks again gets the third, though it was read ahead."""
        events = [numbered(n) for n in range(5)]
        with TraceReader(write(events)) as reader:
            first = list(itertools.islice(reader, 2))

            assert first == events[:2]
            assert reader.info().records == 2
            assert list(reader) == events[2:]
            assert reader.info().state is State.WHOLE
            assert list(reader) == []

    def test_rows_are_the_events(self, write, numbered) -> None:
        """A row holds the fields of its event, in the order of the format."""
        with TraceReader(write([numbered(3)])) as reader:
            (row,) = reader.rows()

        assert row == ["move", *attrs.astuple(numbered(3))]


class TestCut:
    """Files that stop."""

    def test_at_every_byte(self, tmp_path, write, numbered) -> None:
        """Exactly the whole records before the cut are read, and what is lost is counted."""
        events = [numbered(0), *(Note("n", str(n), n) for n in range(199))]
        data = write(events).read_bytes()
        ends = record_ends(data)
        assert len(ends) == 201
        path = tmp_path / "cut"
        path.write_bytes(data)
        for cut in range(len(data) - 1, 0, -1):
            os.truncate(path, cut)
            with TraceReader(path) as reader:
                got = list(reader)
                found = reader.info()
            whole = sum(end <= cut for end in ends[1:])
            assert events[:whole] == got
            assert (found.state, found.records, found.trailer) == (State.CUT, whole, None)
            assert found.lost_bytes == cut - (ends[whole] if cut >= ends[0] else 0)

    def test_without_trailer(self, write, numbered) -> None:
        """A file that just stops lost nothing, and says so."""
        found = inspect(write([numbered(0)], status=None))

        assert (found.state, found.lost_bytes) == (State.CUT, 0)
        assert "did not close" in found.problem


class TestDamaged:
    """Files with bytes that no writer made."""

    def test_single_bits(self, tmp_path, write, numbered) -> None:
        """No altered record is returned, and those before the flipped bit are all there."""
        events = [numbered(n) for n in range(200)]
        data = write(events).read_bytes()
        ends = record_ends(data)
        rng = random.Random(7)  # noqa: S311
        path = tmp_path / "flipped"
        for _ in range(1000):
            bit = rng.randrange(len(data) * 8)
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            before = sum(end <= bit // 8 for end in ends[1:])
            try:
                with TraceReader(path) as reader:
                    got = list(reader)
                    found = reader.info()
            except InputError:
                assert bit // 8 < 24  # the words that make it a trace
                continue
            assert found.state is not State.WHOLE
            if bit // 8 >= ends[0]:
                assert events[:before] == got
            else:
                assert got in ([], events)
                assert found.header == {}

    def test_two_headers(self, tmp_path, write, numbered) -> None:
        """A missing record shows, though each one that is there is sound."""
        data = write([numbered(n) for n in range(3)]).read_bytes()
        ends = record_ends(data)
        (tmp_path / "t").write_bytes(data[: ends[0]] + data[ends[1] :])

        found = inspect(tmp_path / "t")

        assert (found.state, found.records) == (State.DAMAGED, 2)
        assert "counts 3 records, 2 are here" in found.problem

    def test_bytes_after_the_trailer(self, tmp_path, write, numbered) -> None:
        """The end is the end."""
        path = write([numbered(0)])
        with path.open("ab") as file:
            file.write(b"more")

        found = inspect(path)

        assert (found.state, found.records, found.lost_bytes) == (State.DAMAGED, 1, 4)
        assert (found.trailer or {})["status"] == "done"

    @pytest.mark.parametrize(
        ("tail", "problem"),
        [
            (b"\x00" * 50, "record 2: its head is damaged"),
            (b"\x92\xce\0\0\0\0\xc6\0\x04\0\x01", "record 2: it claims 262145 bytes"),
            (b"\x92\xce\0\0\0\0\xc6\0\0\0\x01a", "record 2: its checksum differs"),
            (frame(b"\xc1"), "record 2: not msgpack"),
            (frame(pack(["note", "a", "b", -1])), "record 2: note: at_ns is negative"),
            (frame(pack(["note", "a", "b", True])), "record 2: note: a field"),
            (b"\xde\x00\x01\xc1", "trailer: not msgpack"),
            (b"\xde\x00\x01\xa1a\x01", "trailer: its checksum differs"),
        ],
    )
    def test_says_what_is_wrong(self, write, numbered, tail, problem) -> None:
        """The record before is kept, the damage is named, and its bytes are counted."""
        path = write([numbered(0)], status=None)
        with path.open("ab") as file:
            file.write(tail)

        found = inspect(path)

        assert found.problem.startswith(problem)
        assert (found.state, found.records, found.lost_bytes) == (State.DAMAGED, 1, len(tail))


class TestNoTrace:
    """What is refused as input."""

    @pytest.mark.parametrize(
        "data",
        [b"", b"hello", b"\x80", b"\xde\x00\x02\xa6format\xa5other", b"\x93NUMPY", b"PK\3\4"],
    )
    def test_foreign_bytes(self, tmp_path, data) -> None:
        """One clear message names the file."""
        (tmp_path / "f").write_bytes(data)

        with pytest.raises(InputError, match=r"is empty|is not a wanflow-trace file") as caught:
            inspect(tmp_path / "f")

        assert str(tmp_path / "f") in caught.value.message
        assert caught.value.exit_code == 2

    def test_missing(self, tmp_path) -> None:
        """A file that is not there is wrong input."""
        with pytest.raises(InputError, match="No such file"):
            next(read(tmp_path / "no"))

    def test_nul_in_the_path(self) -> None:
        """Not even a path like this one escapes as something else."""
        with pytest.raises(InputError, match="null"):
            inspect("a\0b")

    def test_run_folder(self, tmp_path, write, numbered) -> None:
        """The folder of a run is refused with the path of its trace."""
        write([numbered(0)])

        with pytest.raises(InputError, match="not a file") as caught:
            inspect(tmp_path)

        assert caught.value.hint == f"give {tmp_path / 'trace.msgpack'}"

    def test_pipe_does_not_block(self, tmp_path) -> None:
        """A pipe that nobody writes to is refused at once."""
        os.mkfifo(tmp_path / "pipe")

        with pytest.raises(InputError, match="not a file"):
            inspect(tmp_path / "pipe")

    @pytest.mark.parametrize("version", [2, 0, True, "1", None])
    def test_other_version(self, tmp_path, version) -> None:
        """Both versions are named."""
        (tmp_path / "t").write_bytes(seal({"format": "wanflow-trace", "version": version}))

        with pytest.raises(InputError, match=rf"version {version!r}, .* version 1"):
            inspect(tmp_path / "t")


def record_ends(data: bytes) -> list[int]:
    """Find where the header and each record end, by another parser than ours."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(data))
    unpacker.feed(data)
    ends: list[int] = []
    for item in unpacker:
        if isinstance(item, dict) and ends:
            break
        ends.append(unpacker.tell())
    return ends


def test_path_may_be_text(write, numbered) -> None:
    """A path as text is as good."""
    path: Path = write([numbered(0)])

    assert inspect(str(path)).records == 1
