"""Rows of a file: each is what a run of its own makes, whatever lies on the device between them."""

from __future__ import annotations

import csv
import gc
import json
import os
import signal
import socket
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from tests.disk import Disk
from tests.resuming import PLAIN, SMALL, Link, events
from tests.sentinel import PICKLES, Sentinel
from wanflow.errors import InputError, Interrupted, StageFailed
from wanflow.scheduler.run import device_works
from wanflow.session import Request, plan, run
from wanflow.session.batch import making
from wanflow.session.batch.batch import Options, batch, resume_batch
from wanflow.session.batch.ray_cluster import is_here
from wanflow.session.batch.rows_file import RowsFile
from wanflow.session.preparing.place import find_place
from wanflow.trace.events import Move, Transfer, Verb

STREAMED = (*PLAIN, "denoise.weights=stream")
ROWS: list[dict[str, Any]] = [
    {"prompt": "a red circle moves right", "seed": 1},
    {"prompt": "a blue square moves left", "seed": 2},
    {"prompt": "a red circle moves right", "seed": 3},
    {"prompt": "a green square moves up", "seed": 4, "size": "48*32"},
    {"prompt": "a blue square moves left", "seed": 2},
]


def rows_file(folder: Path, rows: list[Any] = ROWS) -> Path:
    """Write rows; a text is a line as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def of_row(request: Request, row: dict[str, Any]) -> Request:
    """The request of a run of its own."""
    return attrs.evolve(request, inputs={**request.inputs, **row})


def video(folder: Path) -> bytes:
    """What a row or a run made."""
    return (folder / "video.mp4").read_bytes()


def report_of(folder: Path, name: str = "run.json") -> dict[str, Any]:
    """What a folder says of itself."""
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found


@pytest.fixture(scope="module")
def least() -> Request:
    """The smallest budget."""
    request = attrs.evolve(SMALL, pins=STREAMED)
    nbytes = max(
        int(str(plan(of_row(request, row)).report["minimum_bytes"])) for row in (ROWS[0], ROWS[3])
    )
    return attrs.evolve(request, vram=f"{nbytes}B")


@pytest.fixture(scope="module", params=["least", "all"])
def made(request, least, tmp_path_factory) -> tuple[Request, Path]:
    """All rows at the smallest budget, and where everything stays."""
    asked = least if request.param == "least" else SMALL
    folder = tmp_path_factory.mktemp(request.param)
    done = batch(asked, rows_file(folder), out=folder / "out", on=find_place)
    assert (done["done"], done["failed"]) == (5, 0)
    return asked, folder / "out"


class TestMade:
    """Rows that were made."""

    def test_are_runs_of_their_own(self, made, tmp_path) -> None:
        """The same file bit for bit, within the same peak, which is the planned one."""
        request, out = made
        for number in (1, 2, 4):
            folder = out / f"{number:04d}"
            single = run(of_row(request, ROWS[number - 1]), out=tmp_path / str(number))
            assert video(folder) == video(tmp_path / str(number))
            row = report_of(folder)
            assert row["peak_bytes"] == row["predicted_peak_bytes"] == single["peak_bytes"]
            assert row["over_budget_bytes"] == 0

    def test_calls_are_watched_once(self, made) -> None:
        """A row after another of the same plan measures no kind of call anew."""
        _, out = made
        watched = [report_of(out / f"{n:04d}")["watched_calls"] for n in (1, 2)]
        assert watched[0][0] > 0 == watched[1][0]
        assert watched[0][1] == watched[1][1]

    def test_prompts_in_one_pass(self, made) -> None:
        """Each weight of the encoder is read once, by no row; three prompts and a negative one."""
        _, out = made
        read = [e.name for e in events(out / "prompts-1") if isinstance(e, Transfer)]
        weights = [name for name in read if not name.endswith(" rows")]
        assert len(weights) == len(set(weights)) > 0
        assert len(read) - len(weights) == 4
        assert not (out / "texts").exists()
        for number in (1, 2, 3, 4):
            names = {e.name for e in events(out / f"{number:04d}") if isinstance(e, Transfer)}
            assert not any(name.startswith("text/") for name in names)

    def test_what_is_left_is_found(self, made) -> None:
        """A row finds what the one before left, and reads none of that."""
        _, out = made
        for before, after in (("0001", "0002"), ("0002", "0003")):
            left = [e.name for e in events(out / before) if _says(e, "stays for the next run")]
            found = [
                e.name for e in events(out / after) if _says(e, "is there from the run before")
            ]
            assert set(left) == set(found) != set()
            moves = [e for e in events(out / after) if isinstance(e, Move) and e.name in found]
            first = {e.name: e for e in reversed(moves) if e.verb is not Verb.FREE}
            assert {e.source for e in first.values()} == {""}

    def test_told(self, made) -> None:
        """`batch.json` and the table: a line a row, the one that is the same as another too."""
        _, out = made
        told = report_of(out, "batch.json")
        assert [row["status"] for row in told["rows"]] == ["done"] * 5
        assert (told["rows"][4]["same_as"], told["rows"][4]["folder"]) == (2, "0002")
        assert not (out / "0005").exists()
        with (out / "table.csv").open(newline="") as file:
            lines = [*csv.DictReader(file)]
        assert [line["product"] for line in lines][3:] == ["0004/video.mp4", "0002/video.mp4"]
        assert [line["prompt"] for line in lines] == [row["prompt"] for row in ROWS]


def _says(event: object, why: str) -> bool:
    return isinstance(event, Move) and event.cause == why


class TestFailing:
    """A row that fails."""

    def test_others_are_made(self, tmp_path) -> None:
        """Told with its line and why, and made when what was wrong is right."""
        rows = [ROWS[0], {"prompt": "x", "frames": -1}, "{", {"prompt": "x", "sed": 3}, ROWS[1]]
        done = batch(SMALL, rows_file(tmp_path, rows), out=tmp_path / "out", on=find_place)
        assert (done["done"], done["failed"]) == (2, 3)
        assert [row["line"] for row in done["failures"]] == [2, 3, 4]
        told = [row["error"] for row in done["failures"]]
        assert told[0].startswith("input 'frames' is -1")
        assert "line 3: is no JSON" in told[1]
        assert "has no input 'sed'" in told[2]
        copy = tmp_path / "out" / "rows.jsonl"
        copy.write_text(copy.read_text().replace('"frames": -1', '"frames": 5'))
        before = video(tmp_path / "out" / "0001")
        again = resume_batch(tmp_path / "out", on=find_place)
        assert (again["done"], again["failed"]) == (3, 2)
        assert video(tmp_path / "out" / "0001") == before

    def test_stops(self, tmp_path) -> None:
        """Where that is asked for."""
        rows = rows_file(tmp_path, [{"prompt": "x", "frames": -1}, ROWS[0]])
        with pytest.raises(StageFailed, match=r"row 1 \(line 1\): input 'frames' is -1") as caught:
            batch(SMALL, rows, out=tmp_path / "out", options=Options(False), on=find_place)
        assert caught.value.detail["resume"] == f"wanflow resume {tmp_path / 'out'}"

    def test_what_it_held_is_given_back(self, tmp_path, monkeypatch) -> None:
        """Its frames and its error hold one another, and the call's tensors: all of the budget."""
        guarded, failed, kept = device_works.guarded, [], []

        def kernel(_inputs):
            some = torch.zeros(1)
            failed.append(weakref.ref(some))
            raise RuntimeError("of row 1")

        def failing(placed, inputs):
            if not failed and placed.program.stage == "denoise":
                placed = attrs.evolve(placed, call=attrs.evolve(placed.call, run=kernel))
            if failed and placed.program.stage == "noise":
                kept.append(failed[0]())
            return guarded(placed, inputs)

        monkeypatch.setattr(device_works, "guarded", failing)
        gc.disable()  # or it might come by itself
        try:
            rows = rows_file(tmp_path, ROWS[:2])
            done = batch(SMALL, rows, out=tmp_path / "out", on=find_place)
        finally:
            gc.enable()
        assert (done["done"], done["failed"], kept) == (1, 1, [None])

    def test_budget(self, tmp_path) -> None:
        """One that holds no row: each says so."""
        small = attrs.evolve(SMALL, vram="1MiB")
        done = batch(small, rows_file(tmp_path, ROWS[:2]), out=tmp_path / "out", on=find_place)
        assert done["failed"] == 2
        assert "can't hold it" in str(done["failures"][0]["error"])

    def test_memory_runs_out(self, tmp_path) -> None:
        """On a card: the row goes on with a tighter plan, the next as planned; the same bits."""
        plain = Link()
        asked = attrs.evolve(SMALL, device="auto", pins=STREAMED)
        rows = rows_file(tmp_path, ROWS[:3])
        batch(asked, rows, out=tmp_path / "plain", on=plain.place)
        plain.close()
        short = Link(fails=lambda number: number == plain.slabs // 2)
        done = batch(asked, rows, out=tmp_path / "short", on=short.place)
        assert done["done"] == 3
        tries = [report_of(tmp_path / "short" / f"{n:04d}")["tries"] for n in (1, 2, 3)]
        assert sorted(tries) == [1, 1, 2]
        for number in ("0001", "0002", "0003"):
            assert video(tmp_path / "short" / number) == video(tmp_path / "plain" / number)
        assert short.left_bytes() == 0
        short.close()


class TestCut:
    """A batch that was cut short."""

    def test_goes_on(self, tmp_path, monkeypatch) -> None:
        """After Ctrl-C in a row: its steps are not made again, nor are rows; the same files."""
        rows = rows_file(tmp_path, ROWS[:3])
        batch(SMALL, rows, out=tmp_path / "whole", on=find_place)
        watch = _Stopper(monkeypatch, after=2)
        with pytest.raises(Interrupted) as caught:
            batch(SMALL, rows, out=tmp_path / "cut", watch=watch, on=find_place)
        assert caught.value.hint == f"wanflow resume {tmp_path / 'cut'}"
        told = report_of(tmp_path / "cut", "batch.json")
        assert told["status"] == "interrupted"
        assert [row["status"] for row in told["rows"]] == ["done", "waiting", "waiting"]
        monkeypatch.undo()

        first = (tmp_path / "cut" / "0001" / "run.json").stat().st_mtime_ns
        done = resume_batch(tmp_path / "cut", on=find_place)
        assert done["done"] == 3
        assert (tmp_path / "cut" / "0001" / "run.json").stat().st_mtime_ns == first
        assert report_of(tmp_path / "cut" / "0002")["resumed"]
        for number in ("0001", "0002", "0003"):
            assert video(tmp_path / "cut" / number) == video(tmp_path / "whole" / number)

    def test_done(self, tmp_path, monkeypatch) -> None:
        """One that is whole is left alone: no place is looked for."""
        rows = rows_file(tmp_path, ROWS[:1])
        batch(SMALL, rows, out=tmp_path / "out", on=find_place)

        def nowhere(_request: Request) -> Any:
            raise AssertionError("nothing is to be run")

        assert resume_batch(tmp_path / "out", on=nowhere)["done"] == 1

    def test_a_row_that_was_killed_as_it_was_done(self, tmp_path) -> None:
        """What it had saved, and had no time to clear, is cleared by whoever goes on."""
        rows = rows_file(tmp_path, ROWS[:1])
        batch(SMALL, rows, out=tmp_path / "out", on=find_place)
        state = tmp_path / "out" / "0001" / "state"
        state.mkdir()
        (state / "denoise.2.0.safetensors").write_bytes(b"left")
        assert resume_batch(tmp_path / "out", on=find_place)["done"] == 1
        assert not state.exists()

    @pytest.mark.parametrize("options", ["", '{"ray": 5}', '{"keep_going": "no"}'])
    def test_damaged(self, tmp_path, options) -> None:
        """Told by the file."""
        request = '{"request": {"graph": "t2v-tiny"}, "rows": "rows.txt", "options": '
        (tmp_path / "batch-request.json").write_text(f"{request}{options}}}")
        with pytest.raises(InputError, match=r"batch-request\.json: damaged"):
            resume_batch(tmp_path)

    @pytest.mark.parametrize("address", ["192.0.2.7:6379", "ray://192.0.2.7:10001", "head:6379"])
    def test_a_cluster_that_only_the_folder_names(self, tmp_path, address, monkeypatch) -> None:
        """Who runs a cluster runs code here: nothing is asked of one that nobody typed."""
        rows = rows_file(tmp_path, ROWS[:1])
        data = {"request": {"graph": "t2v-tiny"}, "rows": rows.name}
        (tmp_path / "batch-request.json").write_text(
            json.dumps({**data, "options": {"keep_going": True, "ray": address}})
        )

        def asked(*_address: object) -> None:
            raise AssertionError("somebody was asked")

        for name in ("connect", "connect_ex"):
            monkeypatch.setattr(socket.socket, name, asked)
        monkeypatch.setattr(socket, "getaddrinfo", asked)
        with pytest.raises(InputError, match="which would run code here") as told:
            resume_batch(tmp_path)
        assert f"--ray {address}" in told.value.hint

    @pytest.mark.parametrize(
        ("address", "here"),
        [
            ("auto", True), ("127.0.0.1:6379", True), ("ray://127.0.0.1:10001", True),
            ("localhost:6379", True), ("[::1]:6379", True), ("192.0.2.7:6379", False),
            ("localhost.example:6379", False), ("224.0.0.1:6379", False), ("", False),
        ],
    )  # fmt: skip
    def test_which_clusters_are_this_computers(self, address, here) -> None:
        """One that it made itself is gone on with unasked."""
        assert is_here(address) is here

    @pytest.mark.parametrize("name", ["0001", "texts", "lock", "batch.json.part"])
    def test_links(self, tmp_path, name) -> None:
        """Of a folder that came from somebody else: none is written through."""
        rows = rows_file(tmp_path / "rows", ROWS[:1])
        out, outside = tmp_path / "out", tmp_path / "outside"
        for folder in (out, outside):
            folder.mkdir()
        (out / name).symlink_to(outside if "." not in name else outside / "file")
        with pytest.raises(InputError, match=f"{name}: is a link"):
            batch(SMALL, rows, out=out, force=True)
        (out / "batch-request.json").write_text(
            json.dumps({"request": {"graph": "t2v-tiny"}, "rows": "rows.jsonl", "options": {}})
        )
        with pytest.raises(InputError, match=f"{name}: is a link"):
            resume_batch(out)
        assert not [*outside.iterdir()]


class _Stopper:
    """A watch that asks for a stop when row *after* has made a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self._after, self._row, self._asked = after, 0, False
        self.sink = self
        monkeypatch.setattr("wanflow.session.running.run.stopping", self._stopping)

    def _stopping(self) -> Any:
        import contextlib

        @contextlib.contextmanager
        def stopped() -> Any:
            yield self._stop

        return stopped()

    def _stop(self) -> None:
        if self._asked:
            raise Interrupted("stopped as the test wants it")

    def opens(self, count: int) -> None:
        assert count == 3

    def encodes(self, rows: int) -> None:
        assert rows

    def begins(self, number: int, left_seconds: float) -> None:
        assert left_seconds >= 0
        self._row = number + 1

    def ended(self, entry: Any) -> None:
        assert entry["status"] == "done"

    def emit(self, event: Any) -> None:
        from wanflow.trace.events import Step

        self._asked |= isinstance(event, Step) and self._row == self._after


class TestFullDisk:
    """A disk that is full from some write on."""

    def test_in_a_row(self, tmp_path, monkeypatch) -> None:
        """Rows before it are whole, the reason and the way on are told, and it goes on."""
        rows = rows_file(tmp_path / "rows", ROWS[:4])
        (tmp_path / "disk").mkdir()
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "disk" / "config"))
        disk = Disk(tmp_path / "disk", monkeypatch)
        disk.begin()
        batch(SMALL, rows, out=tmp_path / "disk" / "whole", on=find_place)
        creates = disk.seen["create video.mp.part"]
        assert creates == 4
        disk.begin(full_at=("create video.mp.part", 3), stays=True)
        out = tmp_path / "disk" / "out"
        with pytest.raises(StageFailed, match="No space left on device") as caught:
            batch(SMALL, rows, out=out, on=find_place)
        assert caught.value.hint == f"free some space, then wanflow resume {out}"
        for number in ("0001", "0002"):
            assert report_of(out / number)["status"] == "done"
            assert video(out / number) == video(tmp_path / "disk" / "whole" / number)
        assert not [*out.rglob("*.part")]

        disk.begin()
        assert resume_batch(out, on=find_place)["done"] == 4
        for number in ("0003", "0004"):
            assert video(out / number) == video(tmp_path / "disk" / "whole" / number)


class TestKilled:
    """SIGKILL."""

    def test_goes_on(self, tmp_path) -> None:
        """At a moment in a row, another at the one after: all files as if nothing had been."""
        rows = rows_file(tmp_path, ROWS[:3])
        batch(SMALL, rows, out=tmp_path / "whole", on=find_place)
        out = tmp_path / "cut"
        for row in ("0001", "0002"):
            pid = os.fork()
            if not pid:
                _kill_at(out / row / "state" / "index.json")
                again = out.exists()
                resume_batch(out, on=find_place) if again else batch(
                    SMALL, rows, out=out, on=find_place
                )
                os._exit(0)
            assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
            assert not (out / row / "video.mp4").exists()
        done = resume_batch(out, on=find_place)
        assert done["done"] == 3
        assert report_of(out / "0002")["resumed"]
        for number in ("0001", "0002", "0003"):
            assert video(out / number) == video(tmp_path / "whole" / number)
        assert not [*out.rglob("*.part")]


def _kill_at(path: Path) -> None:
    """End this process without a word once a file is there."""

    def wait() -> None:
        while not path.exists():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


class TestRowsFromElsewhere:
    """A rows file that somebody else wrote."""

    def test_a_path_to_what_is_no_picture(self, tmp_path) -> None:
        """Of a file that it names only the name is told; what the row makes is in its folder."""
        secret = tmp_path / "secret"
        secret.write_text("hunter2\n")
        rows = rows_file(tmp_path, [{"image": str(secret)}, {"image": f"../{secret.name}"}])
        request = attrs.evolve(
            SMALL, graph="i2v-tiny", inputs={**SMALL.inputs, "prompt": "x"}, pins=()
        )
        done = batch(request, rows, out=tmp_path / "out", on=find_place)
        assert (done["done"], done["failed"]) == (0, 2)
        told = "".join(path.read_text() for path in (tmp_path / "out").glob("*.*"))
        assert str(secret) in told
        assert "hunter2" not in told + json.dumps(done)
        assert {path.name for path in tmp_path.iterdir()} == {"secret", "rows.jsonl", "out"}

    @pytest.mark.parametrize("name", ["out", "weights", "graph", "device", "folder", "../x", "/x"])
    def test_what_is_no_input(self, tmp_path, name) -> None:
        """A row sets inputs of the graph: no folder, no weights, no options."""
        done = batch(SMALL, rows_file(tmp_path, [{name: "x"}]), out=tmp_path / "out", on=find_place)
        assert "has no input" in done["failures"][0]["error"]  # type: ignore[index]
        assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "out"}

    @pytest.mark.parametrize("kind", ["jsonl", "txt", "csv", "pkl"])
    @pytest.mark.parametrize("place", ["alone", "protocol 0"])
    def test_pickles(self, tmp_path, kind, place) -> None:
        """Whatever it is called, nothing in it is built."""
        path, before = tmp_path / f"rows.{kind}", Sentinel.unpickled
        path.write_bytes(PICKLES[place])
        with suppress(InputError):  # some are lines of text
            found = RowsFile.open(path)
            assert all(found.read(number) for number in range(len(found)))
        assert Sentinel.unpickled == before


class TestRefused:
    """What is told before anything runs."""

    def test_column(self, tmp_path) -> None:
        """A table whose column is no input, with what may be meant."""
        path = tmp_path / "rows.csv"
        path.write_text("prompt,sead\na,1\n")
        with pytest.raises(
            InputError, match="line 1: graph 't2v-tiny' has no input 'sead'"
        ) as told:
            batch(SMALL, path, out=tmp_path / "out")
        assert "seed" in told.value.hint
        assert not (tmp_path / "out").exists()

    def test_folder(self, tmp_path) -> None:
        """One that holds something, with how to go on."""
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "x").touch()
        with pytest.raises(InputError, match="is not empty"):
            batch(SMALL, rows_file(tmp_path), out=tmp_path / "out")

    def test_rows_of_another_batch(self, tmp_path) -> None:
        """With `force` they don't pass for this one's."""
        out = tmp_path / "out"
        batch(SMALL, rows_file(tmp_path, ROWS[:1]), out=out, on=find_place)
        before = video(out / "0001")
        batch(SMALL, rows_file(tmp_path, ROWS[1:2]), out=out, force=True, on=find_place)
        assert video(out / "0001") != before
        assert report_of(out / "0001")["seed"] == 2

    def test_machine(self, tmp_path) -> None:
        """Rows are made here."""
        with pytest.raises(InputError, match="is for planning"):
            batch(attrs.evolve(SMALL, machine="rtx4090"), rows_file(tmp_path))

    def test_devices(self, tmp_path) -> None:
        """One video on several devices is another thing; what there is for rows is named."""
        with pytest.raises(InputError, match="shares one video among devices") as told:
            batch(attrs.evolve(SMALL, devices="cpu*2"), rows_file(tmp_path))
        assert told.value.hint == "--ray local has each card make rows"


def test_two_plans(tmp_path, own_cache) -> None:
    """A plan that is made between two rows, by profiling, leaves the next row whole."""
    del own_cache
    rows = rows_file(tmp_path, [ROWS[0], {**ROWS[1], "size": "32*48"}])
    assert batch(SMALL, rows, out=tmp_path / "out", on=find_place)["done"] == 2


def test_windows(tmp_path, monkeypatch) -> None:
    """Prompts are encoded for a window of rows at a time, and those of the budget in a pass."""
    monkeypatch.setattr(making, "WINDOW", 2)
    done = batch(SMALL, rows_file(tmp_path, ROWS[:4]), out=tmp_path / "out", on=find_place)
    assert done["done"] == 4
    assert len([*(tmp_path / "out").glob("prompts-*")]) == 2
