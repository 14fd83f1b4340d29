"""A trace is read as it grows: where its run is, what it takes, what it comes to."""

import os
import random
import threading
import time

import pytest

from tests.watch.conftest import HEADER, MIB, SECOND, events, handles, held, write_run, write_trace
from wanflow.files.lock import locked
from wanflow.trace import TraceWriter, summarise
from wanflow.trace.events import Kind, Move, Step, Verb, Workspace
from wanflow.trace.levels import Level
from wanflow.watch.followed_trace import FollowedTrace
from wanflow.watch.growing_curve import GrowingCurve
from wanflow.watch.planned import MOST_STAGES, planned_stages

PLAN = {"stages": [{"stage": "denoise", "seconds": 3.0, "peak_bytes": 9 * MIB}]}


def followed(path, plan=PLAN):
    """Follow a file from its start."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return FollowedTrace.of(handle, planned_stages(plan))
    finally:
        os.close(handle)


def read_through(trace):
    """Read all that is there."""
    trace.advance(0.0)
    while trace.reading:
        trace.advance(0.5)
    return trace


class TestCurve:
    """Memory over a time that grows."""

    @pytest.mark.parametrize("seed", range(20))
    def test_is_the_most_of_each_cell(self, seed) -> None:
        """However often cells were doubled: held against the levels themselves."""
        chance = random.Random(seed)  # noqa: S311
        curve, at, levels = GrowingCurve(cells=chance.choice((4, 16, 480))), 0, []
        for _ in range(200):
            at += chance.choice((0, 1, 10**3, 10**6, 10**9))
            levels.append(Level("cpu", at, "s", 0, chance.randrange(10**6), None))
            curve.see(levels[-1])
        ends = [*(level.at_ns for level in levels[1:]), at]
        for index, level in enumerate(curve._levels):
            first, end = index * curve.cell_ns, (index + 1) * curve.cell_ns
            there = [
                held.resident_bytes
                for held, ended in zip(levels, ends, strict=True)
                if held.at_ns < end and (ended >= first or held.at_ns >= first)
            ]
            assert level.resident_bytes == max(there, default=0), index
        assert max(level.resident_bytes for level in curve._levels) == max(
            level.resident_bytes for level in levels
        )

    def test_is_bounded(self) -> None:
        """By cells, whatever a trace says of its time."""
        curve = GrowingCurve()
        for power in range(0, 63, 3):
            curve.see(Level("cpu", 2**power, "s", 0, 1, None))
        assert len(curve._levels) <= curve.cells


class TestWhole:
    """A trace that ended."""

    def test_says_what_the_summary_says(self, tmp_path) -> None:
        """The same sums, with what was planned beside."""
        write_trace(tmp_path / "trace.msgpack")
        trace = read_through(followed(tmp_path / "trace.msgpack"))
        sums, summary = trace.sums(), summarise(tmp_path / "trace.msgpack")
        assert sums["whole_peak_bytes"] == summary.whole_peak_bytes == 6 * MIB
        (stage,) = sums["stages"]
        assert (stage["steps"], stage["seconds"]) == (3, 3.0)
        assert (stage["planned_peak_bytes"], stage["planned_seconds"]) == (9 * MIB, 3.0)
        assert trace.reader.closed

    def test_chart(self, tmp_path) -> None:
        """Bytes of each kind add up to all of it, at its peak too."""
        write_trace(tmp_path / "trace.msgpack")
        chart = read_through(followed(tmp_path / "trace.msgpack")).chart()
        cells = chart["resident_bytes"]
        assert max(cells) == 5 * MIB
        assert [sum(kind) for kind in zip(*chart["by_kind"].values(), strict=True)] == cells
        assert [stage["stage"] for stage in chart["stages"]] == ["denoise"]
        assert chart["stages"][0]["planned_bytes"] == 9 * MIB

    def test_in_slices(self, tmp_path) -> None:
        """However little time there is for each, all of it is read in the end."""
        write_trace(tmp_path / "trace.msgpack", events(2000))
        trace, slices = followed(tmp_path / "trace.msgpack"), 0
        while trace.reading:
            trace.advance(0.001)
            slices += 1
            assert 0 <= trace.head(running=False)["read_share"] <= 1
        assert slices > 3
        assert trace.sums()["stages"][0]["steps"] == 2000


class TestGrowing:
    """A trace whose run goes on."""

    def test_is_read_once(self, tmp_path) -> None:
        """Each event, though they come bit by bit."""
        write_trace(tmp_path / "whole", events(20))
        data, path = (tmp_path / "whole").read_bytes(), tmp_path / "trace.msgpack"
        path.write_bytes(data[:400])
        trace = None
        for end in range(400, len(data) + 97, 97):
            with path.open("ab") as file:
                file.write(data[path.stat().st_size : end])
            if trace is None or not trace.reader.header:
                if trace is not None:
                    trace.close()
                trace = followed(path)
            trace.advance(1.0)
        assert trace.sums()["stages"] == read_through(followed(tmp_path / "whole")).sums()["stages"]
        assert trace.reader.closed

    def test_head(self, tmp_path) -> None:
        """Stage, step, memory with what is set aside, and the time left."""
        writer = TraceWriter(tmp_path / "trace.msgpack", HEADER)
        for event in events(2, total=8):
            writer.emit(event)
        trace = read_through(followed(tmp_path / "trace.msgpack"))
        head = trace.head(running=True)
        trace.close()
        writer.close("done", {})
        assert (head["stage"], head["step"], head["steps"]) == ("denoise", 2, 8)
        assert (head["now_bytes"], head["peak_bytes"]) == (3 * MIB, 5 * MIB)
        assert (head["budget_bytes"], head["planned_bytes"]) == (12 * MIB, 9 * MIB)
        assert 5.0 <= head["left_seconds"] <= 6.0
        assert 2.0 <= head["elapsed_seconds"] < 60.0


class TestCut:
    """Traces of runs that were killed, and worse."""

    def test_at_every_byte(self, runs, page) -> None:
        """The page shows what is there and says that there is no more."""
        folder = write_run(runs / "a", None)
        data = (folder / "trace.msgpack").read_bytes()
        key = page.key("a")
        for end in range(0, len(data), 7):
            (folder / "trace.msgpack").write_bytes(data[:end])
            run = page.whole(key)
            if run["problem"]:
                assert "trace.msgpack" in run["problem"]
                assert "/proc" not in run["problem"]
            else:
                assert run["summary"]["state"] == "cut"

    def test_damaged(self, runs, page) -> None:
        """The first half is shown."""
        folder = write_run(runs / "a")
        data = bytearray((folder / "trace.msgpack").read_bytes())
        data[-300] ^= 0xFF
        (folder / "trace.msgpack").write_bytes(data)
        run = page.whole(page.key("a"))
        assert run["summary"]["state"] == "damaged"
        assert max(run["chart"]["resident_bytes"]) > 0

    def test_flips_and_splices(self, runs, page) -> None:
        """200 damaged files: an answer for each, never a failure of ours."""
        chance = random.Random(1)  # noqa: S311
        folder = write_run(runs / "a")
        whole = (folder / "trace.msgpack").read_bytes()
        key = page.key("a")
        for _ in range(200):
            data = bytearray(whole)
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            (folder / "trace.msgpack").write_bytes(data)
            page.whole(key)

    def test_another_trace_of_the_same_name(self, runs, page) -> None:
        """A run that is made anew is read from its start."""
        folder = write_run(runs / "a")
        assert page.whole(page.key("a"))["summary"]["stages"][0]["steps"] == 3
        write_trace(folder / "new", events(2))
        (folder / "new").rename(folder / "trace.msgpack")
        assert page.whole(page.key("a"))["summary"]["stages"][0]["steps"] == 2

    def test_earlier_tries(self, runs, page) -> None:
        """Each has a trace, the last one first; other names are none."""
        folder = write_run(runs / "a")
        for number, steps in ((1, 1), (2, 2)):
            write_trace(folder / f"trace-{number}.msgpack", events(steps), status=None)
        key = page.key("a")
        run = page.whole(key, "?trace=trace-1.msgpack")
        assert run["traces"] == ["trace.msgpack", "trace-2.msgpack", "trace-1.msgpack"]
        assert run["summary"]["stages"][0]["steps"] == 1
        assert page.get(f"/api/runs/{key}?trace=run.json").status_code == 404
        assert page.get(f"/api/runs/{key}?trace=../b/trace.msgpack").status_code == 404


class TestHostile:
    """Traces that no run wrote."""

    def test_more_stages_and_tiers_than_there_are(self, tmp_path) -> None:
        """What is past the bound is not kept apart."""
        made = [
            Step(f"s{number}", 0, 1, number, number + 1, MIB, 0)
            for number in range(3 * MOST_STAGES)
        ]
        made += [
            Move(Verb.PLACE, Kind.VALUE, "x", "s0", 0, "", f"tier{number}", 1, 1, 0, 1, 0, "")
            for number in range(500)
        ]
        write_trace(tmp_path / "trace.msgpack", made)
        trace = read_through(followed(tmp_path / "trace.msgpack"))
        assert len(trace.state.turns) == MOST_STAGES
        assert len(trace._running.tally.tiers) <= 64

    def test_times_and_sizes(self, tmp_path) -> None:
        """As large as a record may say: an answer that JSON holds."""
        top = 2**63 - 1
        made = [
            Workspace("x", "denoise", 0, "cpu", top, top, 0, top),
            Step("denoise", top, top, 0, top, top, top),
            Workspace("x", "denoise", 0, "cpu", 1, 1, top, 0),
        ]
        write_trace(tmp_path / "trace.msgpack", made)
        trace = read_through(followed(tmp_path / "trace.msgpack"))
        assert len(trace.chart()["resident_bytes"]) <= 480
        assert trace.head(running=True)["left_seconds"] >= 0

    @pytest.mark.parametrize(
        "stages",
        [None, 3, [3], [{}], [{"stage": 1, "seconds": 2}], [{"stage": "x", "seconds": "y"}]],
    )
    def test_plans(self, tmp_path, stages) -> None:
        """A plan that says nothing predicts nothing."""
        write_trace(tmp_path / "trace.msgpack")
        trace = read_through(followed(tmp_path / "trace.msgpack", {"stages": stages}))
        assert trace.sums()["stages"][0]["planned_seconds"] is None


class TestNow:
    """What runs now."""

    def test_a_run_from_its_start_to_its_end(self, runs, page) -> None:
        """Starting, at work, finished."""
        folder = write_run(runs / "a", None, trace=False)
        with held(folder):
            (run,) = page.json("/api/now")["running"]
            assert run["head"] is None
            writer = TraceWriter(folder / "trace.msgpack", HEADER)
            for event in events(2, total=8):
                writer.emit(event)
            (run,) = page.json("/api/now")["running"]
            assert (run["head"]["stage"], run["head"]["step"]) == ("denoise", 2)
            assert max(run["chart"]["resident_bytes"]) == 4 * MIB
            writer.emit(Step("denoise", 2, 8, 2 * SECOND, 3 * SECOND, MIB, 0))
            assert page.json("/api/now")["running"][0]["head"]["step"] == 3
            writer.close("done", {})
            (folder / "run.json").write_text('{"status": "done"}')
        assert page.json("/api/now")["running"] == []
        assert page.json("/api/runs")["runs"][0]["state"] == "done"

    def test_no_more_than_are_followed(self, runs, page) -> None:
        """The rest is counted."""
        folders = [write_run(runs / f"{number:02d}", None) for number in range(20)]
        locks = [held(folder) for folder in folders]
        for lock in locks:
            lock.__enter__()
        now = page.json("/api/now")
        for lock in locks:
            lock.__exit__(None, None, None)
        assert (len(now["running"]), now["running_count"]) == (16, 20)

    def test_handles_are_given_back(self, runs, page) -> None:
        """However many traces are looked at."""
        for number in range(60):
            write_run(runs / f"{number:02d}", None)
        keys = [run["key"] for run in page.json("/api/runs?most=200")["runs"]]
        before = handles()
        for key in keys:
            page.json(f"/api/runs/{key}")
        assert handles() <= before + page.readings.most
        page.readings.close()
        assert handles() <= before + 1

    def test_the_lock_is_left_alone(self, runs, page) -> None:
        """A run may begin in any instant in which the page looks."""
        folder = write_run(runs / "a", None)
        ends = time.monotonic() + 0.5

        def look():
            while time.monotonic() < ends:
                page.shelf._next = 0.0
                page.shelf.refresh()

        looker = threading.Thread(target=look)
        looker.start()
        taken = 0
        while time.monotonic() < ends:
            with locked(folder):
                taken += 1
        looker.join()
        assert taken > 50
