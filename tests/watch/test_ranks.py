"""A run on several devices: all of its ranks, each from where its events lie, and who waits."""

import json
import os
import shutil

import pytest

from tests.watch.conftest import HEADER, MIB, SECOND, events, handles, held, write_run, write_trace
from wanflow.trace import TraceWriter
from wanflow.trace.events import Step
from wanflow.watch import rank_files
from wanflow.watch.planned import planned_ranks
from wanflow.watch.rank_files import MOST_RANKS

HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b]0;x\x07"


def header_of(rank, device="cpu"):
    """Give the header of a rank's own trace: each has a budget and a prediction of its own."""
    return {
        **HEADER, "device": f"{device}:{rank}", "budget_tier": "cpu",
        "budget_bytes": (12 + rank) * MIB, "predicted_peak_bytes": (9 + rank) * MIB,
    }  # fmt: skip


def stage(rank):
    """Give what a plan says of a stage."""
    return {"stage": "denoise", "seconds": 3.0 + rank, "peak_bytes": (9 + rank) * MIB}


def plan_ranks(folder, count=2):
    """Write the plan of a run on several devices."""
    ranks = [{"rank": n, "device": f"cpu:{n}", "stages": [stage(n)]} for n in range(count)]
    (folder / "plan.json").write_text(json.dumps({"stages": [stage(0)], "ranks": ranks}))


def write_together(path, counts=(3, 2), status="done", ranks=None):
    """Write the one trace of all ranks, each with so many steps."""
    rows = [header_of(n) for n in range(len(counts))] if ranks is None else ranks
    header = {**header_of(0), "ranks": rows}
    writer = TraceWriter(path, header, overwrite=True)
    for rank, count in enumerate(counts):
        for event in events(count):
            writer.emit(event, rank)
    writer.close(status, {}) if status else _cut(writer)


def _cut(writer):
    """End as a killed process does."""
    writer.sync()
    os.close(writer._fd)
    writer._fd = None


def write_own(folder, counts=(3, 2), status=None):
    """Write the ranks' own traces, as they lie while their run goes on."""
    (folder / "ranks").mkdir(exist_ok=True)
    for rank, count in enumerate(counts):
        path = folder / "ranks" / f"{rank}.msgpack"
        write_trace(path, events(count), header_of(rank), status=status)


def make(folder, status=None, counts=(3, 2)):
    """Make the folder of a run on several devices without any trace."""
    write_run(folder, status, trace=False)
    plan_ranks(folder, len(counts))
    return folder


def peaks(run):
    """Give the peak of each row, None for one that can't be read."""
    return [row["head"] and row["head"]["peak_bytes"] // MIB for row in run["ranks"]]


class TestDone:
    """The one trace that has all of them."""

    @pytest.fixture
    def run(self, runs):
        """A run that ended, on two devices."""
        folder = make(runs / "a", "done")
        write_together(folder / "trace.msgpack")
        return folder

    def test_each_against_its_own(self, run, page) -> None:
        """Budget, plan, curve and stages of each rank."""
        answer = page.whole(page.key("a"))
        assert (answer["rank_count"], answer["rank"]) == (2, 0)
        first, second = answer["ranks"]
        assert [first["device"], second["device"]] == ["cpu:0", "cpu:1"]
        assert peaks(answer) == [6, 5]  # with 1 MiB that is set aside
        assert [row["head"]["budget_bytes"] // MIB for row in (first, second)] == [12, 13]
        assert [row["head"]["planned_bytes"] // MIB for row in (first, second)] == [9, 10]
        assert max(second["chart"]["resident_bytes"]) == 4 * MIB
        assert second["chart"]["stages"][0]["planned_bytes"] == 10 * MIB
        assert all(row["head"]["ended"] and not row["problem"] for row in (first, second))

    def test_sums_of_one(self, run, page) -> None:
        """Those of the rank that is asked for."""
        key = page.key("a")
        for rank, steps in ((0, 3), (1, 2)):
            answer = page.whole(key, f"?rank={rank}")
            (row,) = answer["summary"]["stages"]
            assert (row["steps"], row["planned_seconds"]) == (steps, 3.0 + rank)
            assert answer["summary"]["device"] == f"cpu:{rank}"

    def test_views_and_report_of_one(self, run, page) -> None:
        """As `--rank` does: other texts for the other rank."""
        key = page.key("a")
        for view in ("summary", "stages", "timeline", "peak"):
            texts = {page.get(f"/runs/{key}/views/{view}?rank={n}").text for n in (0, 1)}
            assert len(texts) == 2, view
        reports = [page.get(f"/runs/{key}/report?rank={n}").text for n in (0, 1)]
        assert ["cpu:1" in text for text in reports] == [False, True]
        assert page.get(f"/runs/{key}/trace?rank=1").content == (run / "trace.msgpack").read_bytes()

    def test_a_rank_that_is_none(self, run, page) -> None:
        """Said; what is no number is refused."""
        key = page.key("a")
        assert "has no rank 7" in page.json(f"/api/runs/{key}?rank=7")["problem"]
        assert page.get(f"/runs/{key}/views/peak?rank=7").status_code == 422
        for rank in ("-1", "x", "..%2f..%2fsecret", "1%00", "9" * 10, "٣"):
            for path in (f"/api/runs/{key}", f"/runs/{key}/report", f"/runs/{key}/trace"):
                assert page.get(f"{path}?rank={rank}").status_code == 400

    def test_one_device(self, runs, page) -> None:
        """Has no rows."""
        write_run(runs / "b")
        answer = page.whole(page.key("b"))
        assert (answer["rank_count"], answer["ranks"]) == (1, [])

    def test_an_earlier_try(self, run, page) -> None:
        """Is as wide as its own header says, whatever the plan is by now."""
        write_together(run / "trace-1.msgpack", (1, 1, 1), status=None)
        answer = page.whole(page.key("a"), "?trace=trace-1.msgpack")
        assert answer["rank_count"] == 3
        assert peaks(answer) == [4, 4, 4]


class TestRunning:
    """Files of their own, which grow."""

    def test_are_followed(self, runs, page) -> None:
        """Ahead of the one trace, which is put together from them."""
        folder = make(runs / "a")
        with held(folder):
            (run,) = page.json("/api/now")["running"]
            assert run["rank_count"] == 2
            assert [row["head"] for row in run["ranks"]] == [None, None]
            (folder / "ranks").mkdir()
            writers = [TraceWriter(folder / "ranks" / f"{n}.msgpack", header_of(n)) for n in (0, 1)]
            for event in events(2, total=8):
                writers[0].emit(event)
            (run,) = page.json("/api/now")["running"]
            assert [row["head"]["step"] for row in run["ranks"]] == [2, 0]
            for event in events(1, total=8):
                writers[1].emit(event)
            (run,) = page.json("/api/now")["running"]
            assert [row["head"]["step"] for row in run["ranks"]] == [2, 1]
            write_together(folder / "trace.msgpack", (3, 2))
            for writer in writers:
                writer.close("done", {})
            shutil.rmtree(folder / "ranks")
            assert peaks(page.json("/api/now")["running"][0]) == [6, 5]

    def test_an_old_trace_in_their_folder(self, runs, page) -> None:
        """Of the run before: none of it is shown while the new one starts."""
        folder = make(runs / "a")
        write_together(folder / "trace.msgpack")
        (folder / "ranks").mkdir()
        with held(folder):
            (run,) = page.json("/api/now")["running"]
        assert [row["head"] for row in run["ranks"]] == [None, None]

    def test_who_waits(self, runs, page) -> None:
        """The one that stands still the least is who the others wait for."""
        folder = make(runs / "a", counts=(1, 1, 1))
        (folder / "ranks").mkdir()
        writers = []
        for rank, stood in enumerate((3, 1, 8)):
            writers.append(TraceWriter(folder / "ranks" / f"{rank}.msgpack", header_of(rank)))
            stood_ns = stood * SECOND // 10
            writers[-1].emit(Step("denoise", 0, 4, 0, SECOND, MIB, 0, stood_ns))
        with held(folder):
            (run,) = page.json("/api/now")["running"]
        for writer in writers:
            _cut(writer)
        rows = run["ranks"]
        assert [row["waits_for"] for row in rows] == [1, None, 1]
        assert [round(row["waits_seconds"], 6) for row in rows] == [0.2, 0.0, 0.7]
        assert [row["waits"]["exchanging_seconds"] for row in rows] == [0.3, 0.1, 0.8]


class TestKilled:
    """Whatever is there."""

    def test_before_anything_was_put_together(self, runs, page) -> None:
        """Their own traces, with views, report and file of each."""
        folder = make(runs / "a")
        write_own(folder)
        key = page.key("a")
        answer = page.whole(key, "?rank=1")
        assert (answer["state"], peaks(answer)) == ("killed", [6, 5])
        assert answer["summary"]["stages"][0]["steps"] == 2
        assert all(row["problem"] for row in answer["ranks"])  # that no trailer is there
        assert "denoise" in page.get(f"/runs/{key}/views/stages?rank=1").text
        assert "cpu:1" in page.get(f"/runs/{key}/report?rank=1").text
        own = (folder / "ranks" / "1.msgpack").read_bytes()
        assert page.get(f"/runs/{key}/trace?rank=1").content == own

    def test_they_have_more_than_was_put_together(self, runs, page) -> None:
        """So they are shown."""
        folder = make(runs / "a")
        write_together(folder / "trace.msgpack", (1, 1), status=None)
        write_own(folder, (3, 2))
        assert peaks(page.whole(page.key("a"))) == [6, 5]

    @pytest.mark.parametrize("data", [None, b"", b"no trace", b"\x81\xa6format"])
    def test_one_is_missing_or_damaged(self, runs, page, data) -> None:
        """It is left out with a word, or shown as far as it was put together."""
        folder = make(runs / "a")
        write_own(folder)
        path = folder / "ranks" / "1.msgpack"
        path.write_bytes(data) if data is not None else path.unlink()
        first, second = page.whole(page.key("a"))["ranks"]
        assert (first["head"]["peak_bytes"], second["head"]) == (6 * MIB, None)
        assert second["problem"]
        assert "/proc" not in second["problem"]
        write_together(folder / "trace.msgpack", (1, 1), status=None)
        assert peaks(page.whole(page.key("a"))) == [6, 4]

    def test_cut_at_every_byte(self, runs, page) -> None:
        """A rank's own trace, wherever it ends."""
        folder = make(runs / "a")
        write_own(folder)
        path = folder / "ranks" / "1.msgpack"
        data, key = path.read_bytes(), page.key("a")
        for end in range(0, len(data), 61):
            path.write_bytes(data[:end])
            rows = page.whole(key)["ranks"]
            assert rows[0]["head"]["peak_bytes"] == 6 * MIB
            assert rows[1]["problem"]

    def test_gone_on_with_on_one_device(self, runs, page) -> None:
        """What the ranks of the try before left is not this one's."""
        folder = make(runs / "a", "done")
        write_own(folder)
        (folder / "plan.json").write_text(json.dumps({"stages": [stage(0)]}))
        write_trace(folder / "trace.msgpack", events(1))
        answer = page.whole(page.key("a"))
        assert (answer["ranks"], answer["head"]["peak_bytes"]) == ([], 4 * MIB)

    def test_without_a_plan(self, runs, page) -> None:
        """Their files say how many they were."""
        folder = make(runs / "a")
        write_own(folder)
        (folder / "plan.json").write_text("{")
        assert peaks(page.whole(page.key("a"))) == [6, 5]


class TestHostile:
    """Folders that no run wrote."""

    def test_links(self, tmp_path, runs, page) -> None:
        """Neither the folder nor a file of it is followed out, nor within."""
        outside = make(tmp_path / "outside")
        write_own(outside)
        for name, link in (("a", "ranks"), ("b", "ranks/0.msgpack")):
            folder = make(runs / name)
            if name == "b":
                write_own(folder)
                (folder / link).unlink()
            (folder / link).symlink_to(outside / link)
            key = page.key(name)
            row = page.whole(key)["ranks"][0]
            assert (row["head"], bool(row["problem"])) == (None, True)
            assert page.get(f"/runs/{key}/trace?rank=0").status_code == 404
            assert page.get(f"/runs/{key}/report?rank=0").status_code == 404

    def test_pipes(self, runs, page) -> None:
        """What is no file keeps nobody waiting."""
        folder = make(runs / "a")
        (folder / "ranks").mkdir()
        os.mkfifo(folder / "ranks" / "0.msgpack")
        assert peaks(page.whole(page.key("a"))) == [None, None]

    def test_thousands(self, runs, page) -> None:
        """By header, plan or files: some are shown, the rest is counted; none is opened."""
        by_header = write_run(runs / "header", "done", trace=False)
        write_together(by_header / "trace.msgpack", (2,), ranks=[{}] * 1000)
        make(runs / "plan", counts=(1,) * 5000)
        by_file = write_run(runs / "file", None, trace=False)
        (by_file / "ranks").mkdir()
        (by_file / "ranks" / "8999.msgpack").write_bytes(b"")
        before = handles()
        for name, count in (("header", 1000), ("plan", 5000), ("file", 9000)):
            answer = page.whole(page.key(name))
            assert (answer["rank_count"], len(answer["ranks"])) == (count, MOST_RANKS)
        assert handles() <= before + MOST_RANKS + 3

    def test_of_many_runs_at_once(self, runs, page) -> None:
        """Fewer ranks each, so that what is followed stays followed."""
        folders = [make(runs / f"{n:02d}", counts=(1,) * 8) for n in range(16)]
        locks = [held(folder) for folder in folders]
        for folder, lock in zip(folders, locks, strict=True):
            write_own(folder, (1,) * 8)
            lock.__enter__()
        now = page.json("/api/now")
        before = handles()
        page.json("/api/now")
        for lock in locks:
            lock.__exit__(None, None, None)
        assert {len(run["ranks"]) for run in now["running"]} == {4}
        assert {run["rank_count"] for run in now["running"]} == {8}
        assert handles() <= before
        assert len(page.readings._kept) <= page.readings.most

    def test_entries_without_end(self, runs, page, monkeypatch) -> None:
        """Not all of a folder's names are looked at."""
        monkeypatch.setattr(rank_files, "_MOST_ENTRIES", 10)
        folder = write_run(runs / "a", None, trace=False)
        (folder / "ranks").mkdir()
        for number in range(50):
            (folder / "ranks" / f"x{number}").touch()
        assert page.whole(page.key("a"))["rank_count"] == 1

    @pytest.mark.parametrize(
        "ranks", [3, "x", {}, [], [None, 3], [[], []], [{"stages": 3}] * 2,
                  [{"device": 3, "stages": [{"stage": 3}, {"stage": "x", "seconds": -1}]}] * 2],
    )  # fmt: skip
    def test_plans(self, runs, page, ranks) -> None:
        """Of whatever form: an answer."""
        folder = make(runs / "a", "done")
        (folder / "plan.json").write_text(json.dumps({"ranks": ranks}))
        write_together(folder / "trace.msgpack")
        assert peaks(page.whole(page.key("a"))) == [6, 5]

    def test_names(self, runs, page) -> None:
        """A device's name stays text."""
        folder = make(runs / "a", "done")
        row = {"device": HOSTILE, "stages": [{**stage(0), "stage": HOSTILE}]}
        (folder / "plan.json").write_text(json.dumps({"ranks": [row, row]}))
        write_together(folder / "trace.msgpack", ranks=[{**header_of(0), "device": HOSTILE}] * 2)
        (folder / "ranks").mkdir()
        answer = page.whole(page.key("a"))
        assert {row["device"][:8] for row in answer["ranks"]} == {"<img src"}
        told = json.dumps(answer, ensure_ascii=False)
        assert "\u202e" not in told
        assert "\\u001b" not in told

    def test_long_names_are_no_stages(self) -> None:
        """Nothing large of a plan is kept."""
        rows = [{"stage": "x" * 10**6, "seconds": 1.0}, *[stage(0)] * 10**4]
        count, forecasts = planned_ranks({"ranks": [{"stages": rows, "device": "y" * 999}] * 40}, 3)
        assert (count, len(forecasts)) == (40, 3)
        assert len(forecasts[0].stages) < 300
        assert len(forecasts[0].device) <= 40
