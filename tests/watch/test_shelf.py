"""Runs and batches are found where they are, and looked at again only where something changed."""

import json
import os
import time

import pytest

from tests.watch.conftest import Page, held, settle, write_run
from wanflow.watch import shelf as shelf_module
from wanflow.watch.shelf import Shelf, key_of
from wanflow.watch.tree import Tree


def looked(shelf):
    """Look now."""
    settle(shelf)
    shelf.refresh()
    return shelf


def states(shelf):
    """Give the states of all runs by name."""
    return {run.name: run.state for run in looked(shelf).runs()}


def write_batch(folder, *statuses, rows=True):
    """Write a batch's folder with a row a status."""
    folder.mkdir(parents=True)
    (folder / "batch-request.json").write_text("{}")
    (folder / "lock").write_text("1\n")
    entries = []
    for number, status in enumerate(statuses, 1):
        entries.append({"row": number, "line": number, "status": status, "folder": f"{number:04d}"})
        if rows and status != "waiting":
            write_run(folder / f"{number:04d}", status)
    counts = {name: statuses.count(name) for name in ("waiting", "done", "failed", "running")}
    told = {"graph": "t2v-tiny", "status": "done", "count": len(statuses), **counts}
    (folder / "batch.json").write_text(json.dumps({**told, "rows": entries}))
    return folder


class TestStates:
    """What a run folder says of its run."""

    def test_of_all_kinds(self, runs, page) -> None:
        """Killed is what no process holds and nothing was told of."""
        for status in ("done", "failed", "interrupted"):
            write_run(runs / status, status)
        write_run(runs / "killed", None)
        write_run(runs / "begun", None, trace=False)
        assert states(page.shelf) == {
            "done": "done", "failed": "failed", "interrupted": "interrupted", "killed": "killed",
            "begun": "killed",
        }  # fmt: skip

    def test_running_while_the_lock_is_held(self, runs, page) -> None:
        """Whatever an earlier try left behind; and no longer."""
        folder = write_run(runs / "a", "interrupted")
        assert states(page.shelf) == {"a": "interrupted"}
        with held(folder):
            assert states(page.shelf) == {"a": "running"}
            assert looked(page.shelf).runs()[0].error == ""
        assert states(page.shelf) == {"a": "interrupted"}

    @pytest.mark.parametrize(
        "text", ["", "[]", "{", '{"status": 3}', '{"status": ["done"]}', "[" * 100_000, "\xff"]
    )
    def test_damaged(self, runs, page, text) -> None:
        """A file that says nothing is no failure of the page."""
        folder = write_run(runs / "a")
        (folder / "run.json").write_bytes(text.encode("latin-1"))
        (folder / "request.json").write_bytes(text.encode("latin-1"))
        assert states(page.shelf) == {"a": "killed"}

    def test_odd_values(self, runs, page) -> None:
        """What is no number of bytes or seconds is left out."""
        write_run(
            runs / "a", seconds=float("nan"), peak_bytes=-3, budget_bytes="1", graph={"a": 1},
            predicted_seconds=10**400, device=None,
        )  # fmt: skip
        (card,) = looked(page.shelf).runs()
        assert (card.seconds, card.peak_bytes, card.budget_bytes) == (None, None, None)
        assert (card.predicted_seconds, card.graph) == (None, "t2v-tiny")
        assert page.json("/api/runs")["runs"][0]["seconds"] is None


class TestFinding:
    """Where runs are."""

    def test_nothing(self, page) -> None:
        """An empty folder has none."""
        assert states(page.shelf) == {}

    def test_in_folders_of_folders(self, runs, page) -> None:
        """Down to a depth, and never inside a run."""
        write_run(runs / "a" / "b" / "c")
        write_run(runs / "d")
        write_run(runs / "d" / "inner")
        write_run(runs / "1" / "2" / "3" / "4" / "5")
        assert set(states(page.shelf)) == {"a/b/c", "d"}

    def test_the_folder_itself(self, tmp_path) -> None:
        """A run's own folder may be watched."""
        shelf = Shelf(Tree(write_run(tmp_path / "a")))
        assert states(shelf) == {"": "done"}

    def test_newest_first(self, runs, page) -> None:
        """By when they began."""
        for age, name in enumerate(("new", "old")):
            write_run(runs / name)
            os.utime(runs / name / "request.json", (1000 - age, 1000 - age))
        assert list(states(page.shelf)) == ["new", "old"]

    def test_links_are_not_followed(self, tmp_path, runs, page) -> None:
        """Neither to a run elsewhere nor in a circle."""
        write_run(tmp_path / "elsewhere")
        (runs / "link").symlink_to(tmp_path / "elsewhere")
        (runs / "circle").symlink_to(runs)
        assert states(page.shelf) == {}

    def test_what_comes_and_goes(self, runs, page) -> None:
        """The version changes when what is there does, and then alone."""
        write_run(runs / "a")
        version = looked(page.shelf).version
        assert looked(page.shelf).version == version
        write_run(runs / "b")
        assert set(states(page.shelf)) == {"a", "b"}
        assert page.shelf.version > version
        for file in (runs / "a").iterdir():
            file.unlink()
        (runs / "a").rmdir()
        assert set(states(page.shelf)) == {"b"}
        assert page.shelf.run(key_of(("a",))) is None

    def test_a_run_that_ends(self, runs, page) -> None:
        """Its report is read when it is written."""
        folder = write_run(runs / "a", None)
        assert states(page.shelf) == {"a": "killed"}
        (folder / "run.json").write_text('{"status": "done"}')
        assert states(page.shelf) == {"a": "done"}

    def test_no_more_than_are_kept(self, runs, page, monkeypatch) -> None:
        """And it is said that there are more."""
        monkeypatch.setattr(shelf_module, "MOST_FOLDERS", 4)
        for name in "abcdef":
            write_run(runs / name)
        looker = Page(runs)
        monkeypatch.setattr(shelf_module._Look, "__init__", _few(shelf_module._Look.__init__))
        looked(looker.shelf)
        assert (len(looker.shelf.runs()), looker.shelf.full) == (3, True)


def _few(init):
    def made(self, tree, seen, locks):
        init(self, tree, seen, locks, 4)

    return made


class TestBatches:
    """Batches and their rows."""

    def test_rows_are_of_it(self, runs, page) -> None:
        """They are runs with its key, and in no list of runs."""
        write_batch(runs / "many", "done", "failed", "waiting")
        write_run(runs / "alone")
        (batch,) = page.json("/api/batches")["batches"]
        assert (batch["name"], batch["state"], batch["rows"]) == ("many", "done", 3)
        assert batch["counts"] == {"waiting": 1, "done": 1, "failed": 1, "running": 0}
        assert [run["name"] for run in page.json("/api/runs")["runs"]] == ["alone"]
        rows = page.json(f"/api/batches/{batch['key']}")["rows"]
        assert [row["run"] and row["run"]["name"] for row in rows] == [
            "many/0001",
            "many/0002",
            None,
        ]

    def test_by_status_and_page(self, runs, page) -> None:
        """A part of many rows at a time."""
        write_batch(runs / "many", *["done"] * 7, "failed", rows=False)
        key = page.json("/api/batches")["batches"][0]["key"]
        part = page.json(f"/api/batches/{key}?first=2&most=3")
        assert (part["count"], [row["row"] for row in part["rows"]]) == (8, [3, 4, 5])
        failed = page.json(f"/api/batches/{key}?status=failed")
        assert [row["row"] for row in failed["rows"]] == [8]

    def test_a_killed_one(self, runs, page) -> None:
        """Running is what holds its lock, whatever the file says."""
        folder = write_batch(runs / "many", "done", "waiting")
        told = json.loads((folder / "batch.json").read_text())
        (folder / "batch.json").write_text(json.dumps({**told, "status": "running"}))
        assert page.json("/api/batches")["batches"][0]["state"] == "killed"
        with held(folder):
            assert page.json("/api/now")["batches"][0]["state"] == "running"

    @pytest.mark.parametrize("rows", ["x", [3, None, "y"], [{"folder": "../../etc"}], None])
    def test_rows_that_are_none(self, runs, page, rows) -> None:
        """A folder that a row names leads nowhere."""
        folder = write_batch(runs / "many", "done")
        (folder / "batch.json").write_text(json.dumps({"rows": rows, "count": "many"}))
        key = page.json("/api/batches")["batches"][0]["key"]
        assert all(row["run"] is None for row in page.json(f"/api/batches/{key}")["rows"])


class TestMany:
    """Thousands of runs."""

    def test_only_what_changed_is_looked_into(self, runs, page, monkeypatch) -> None:
        """A second look opens the folders that changed, and no others."""
        for number in range(3000):
            folder = runs / f"{number:05d}"
            folder.mkdir()
            (folder / "request.json").write_text('{"request": {"graph": "g"}}')
            (folder / "run.json").write_text('{"status": "done", "seconds": 1.0}')
            os.utime(folder, (1000, 1000))
        examined = []
        examine = shelf_module._Look._examine

        def counted(self, folder, parts, *rest):
            examined.append(parts)
            return examine(self, folder, parts, *rest)

        monkeypatch.setattr(shelf_module._Look, "_examine", counted)
        assert len(looked(page.shelf).runs()) == 3000
        examined.clear()
        (runs / "00007" / "run.json").rename(runs / "00007" / "run.json.old")
        began = time.process_time()
        looked(page.shelf)
        assert time.process_time() - began < 1.0  # 0.03 s on an idle core
        assert ("00007",) in examined
        assert {parts for parts in examined if parts} == {("00007",)}
        assert len(page.get("/api/runs?most=200").content) < 100_000
