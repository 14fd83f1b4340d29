"""A run while it goes on: its file is followed as it grows, and its events as they come."""

import fcntl
import io
import re
import threading

import pytest
from rich.console import Console

from wanflow.cli import live
from wanflow.files.lock import is_locked
from wanflow.trace import TraceReader, TraceWriter
from wanflow.trace import reader as reader_module
from wanflow.trace.events import Kind, Move, StageSpan, Step, Verb

MIB = 2**20


def events(count):
    """Make steps of a stage, each with a segment that comes."""
    for step in range(count):
        began = step * 10**9
        yield Move(Verb.PLACE, Kind.WEIGHTS, f"dit/{step}", "denoise", step, "disk", "cpu", MIB,
                   (step + 1) * MIB, began, began, 0, "next")  # fmt: skip
        yield Step("denoise", step, count, began, began + 10**9, (step + 1) * MIB, 0)
    yield StageSpan("denoise", "denoise", 0, count * 10**9, count * MIB, ())


@pytest.fixture
def lock(tmp_path):
    """Hold the lock of a run folder, as a running process does."""
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


class TestFollow:
    """`wanflow trace live`."""

    def test_reads_to_the_end_of_the_run(self, tmp_path, lock, monkeypatch) -> None:
        """Every event once, though they come while it reads."""
        monkeypatch.setattr(live, "_POLL_SECONDS", 0.01)
        monkeypatch.setenv("TERM", "xterm")
        header = {"graph": "g", "budget_tier": "cpu", "budget_bytes": 64 * MIB}
        writer = TraceWriter(tmp_path / "trace.msgpack", header)
        half = threading.Event()

        def work() -> None:
            for number, event in enumerate(events(20)):
                writer.emit(event)
                if number == 10:
                    half.wait(5)
            writer.close("done", {})
            fcntl.flock(lock, fcntl.LOCK_UN)

        thread = threading.Thread(target=work)
        thread.start()
        threading.Timer(0.2, half.set).start()
        screen = io.StringIO()
        (summary,) = live.follow(writer.path, Console(file=screen, width=80, force_terminal=True))
        thread.join()

        assert (summary.state, summary.status, summary.events) == ("whole", "done", 41)
        assert summary.stages[0].steps == 20
        assert "denoise  step " in screen.getvalue()

    def test_ranks_side_by_side(self, tmp_path, monkeypatch) -> None:
        """Each with its own bars and budget, as long as nobody says that it is over."""
        monkeypatch.setenv("TERM", "xterm")
        ranks = [{"device": "cpu", "budget_bytes": mib * MIB} for mib in (64, 32)]
        header = {"graph": "g", "budget_tier": "cpu", "ranks": ranks}
        writer = TraceWriter(tmp_path / "trace.msgpack", header)
        for event in events(3):
            writer.emit(event, 0)
        for event in events(5):
            writer.emit(event, 1)
        writer.close("done", {})
        screen = io.StringIO()
        first, second = live.follow(
            writer.path, Console(file=screen, width=80, force_terminal=True)
        )

        assert (first.stages[0].steps, second.stages[0].steps) == (3, 5)
        assert (first.budget_bytes, second.budget_bytes) == (64 * MIB, 32 * MIB)
        assert re.search(
            r"rank 0: denoise  step 3/\d+.*rank 1: denoise  step 5/", screen.getvalue(), re.DOTALL
        )

    def test_a_killed_run_is_over(self, tmp_path, wanflow_here) -> None:
        """Nobody holds the lock, so that nothing more will come."""
        writer = TraceWriter(tmp_path / "trace.msgpack", {"graph": "g"})
        for event in events(3):
            writer.emit(event)
        code, out, _ = wanflow_here("trace", "live", tmp_path)
        writer.close("done", {})
        assert code == 0
        assert "this trace is cut" in out


class TestLock:
    """Whether a run goes on."""

    def test_held(self, tmp_path, lock) -> None:
        """Until it is let go."""
        assert is_locked(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert not is_locked(tmp_path)

    def test_no_lock(self, tmp_path) -> None:
        """A lone file has no run."""
        assert not is_locked(tmp_path)


class TestLiveRun:
    """`wanflow run --live`."""

    def test_shows_the_stages_as_they_come(self, report) -> None:
        """Those that did not start yet are there too."""
        shown = live.LiveRun()
        shown._header = {"stages": ["encode", "denoise"], "budget_tier": "cpu"}
        shown._screen.state.plan(report)
        for event in events(3):
            shown.emit(event)
        text = shown._draw(80)
        assert "memory [" in text
        assert [line.split()[0] for line in text.splitlines() if line.startswith(("enc", "den"))][
            -2:
        ] == ["encode", "denoise"]

    def test_hostile_names(self, report) -> None:
        """Nothing reaches the terminal as a command."""
        shown = live.LiveRun()
        shown._screen.state.plan(report)
        shown.emit(Step("\x1b[2Jx", 0, 3, 0, 1, 5, 0))
        assert all(line.isprintable() for line in shown._draw(80).splitlines())

    def test_without_a_terminal_there_are_lines(self, capsys) -> None:
        """The same as without --live."""
        with live.watch_live() as progress:
            progress.emit(StageSpan("encode", "encode_text", 0, 10**9, MIB, ()))
        assert "encode done in 1.00 s" in capsys.readouterr().err


@pytest.mark.parametrize("late", [1, 5, 11, 12, 60, 10_000])
def test_what_is_written_while_the_end_is_read(tmp_path, monkeypatch, late) -> None:
    """A record that comes between the last one and the look for a trailer is no damage."""
    path, half = tmp_path / "trace.msgpack", [*events(3)]
    with TraceWriter(tmp_path / "whole", {}) as writer:
        for event in half:
            writer.emit(event)
    data = (tmp_path / "whole").read_bytes()
    path.write_bytes(data)
    with TraceReader(path) as reader:
        header = reader._good_bytes
    path.write_bytes(data[:header])
    read = reader_module.payloads

    def payloads(file):
        try:
            yield from read(file)
        finally:  # once all that was there is read
            with path.open("ab") as more:
                more.write(data[path.stat().st_size :][:late])

    monkeypatch.setattr(reader_module, "payloads", payloads)
    found = []
    with TraceReader(path) as reader:
        for _ in range(len(data)):
            found += list(reader)
            if not reader.grown():
                break
        assert (reader.info().state, found) == ("whole", half)


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_cut_record_is_read_when_it_is_whole(tmp_path, cut) -> None:
    """However the bytes come, every event is read once."""
    path = tmp_path / "trace.msgpack"
    with TraceWriter(path, {}) as writer:
        for event in events(3):
            writer.emit(event)
    data = path.read_bytes()
    path.write_bytes(data[: -cut * 5])
    with TraceReader(path) as reader:
        found = list(reader)
        assert reader.grown()
        with path.open("ab") as file:
            file.write(data[-cut * 5 :])
        found += list(reader)
        assert found == list(events(3))
        assert not reader.grown()
