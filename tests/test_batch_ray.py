"""Rows on a Ray cluster: workers and computers die, and what comes of it is as without Ray."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.resuming import SMALL
from tests.test_batch import report_of, rows_file, video
from wanflow.errors import InputError
from wanflow.session.batch.batch import Options, batch, resume_batch
from wanflow.session.preparing.place import find_place

COUNT = 6
ROWS: list[Any] = [{"prompt": "a red circle moves right", "seed": n} for n in range(COUNT)]
REQUEST = attrs.evolve(SMALL, inputs={**SMALL.inputs, "steps": 8})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the rows make without Ray and without deaths."""
    root = tmp_path_factory.mktemp("whole")
    batch(REQUEST, rows_file(root, ROWS), out=root / "out", on=find_place)
    return {f"{n:04d}": video(root / "out" / f"{n:04d}") for n in range(1, COUNT + 1)}


@attrs.define
class Killer:
    """A watch that ends the process of a row once it has saved a step, so many times a row."""

    out: Path
    times: dict[int, int]
    killed: list[int] = attrs.field(factory=list)
    sink: None = None

    def opens(self, count: int) -> None:
        """Rows are there."""

    def encodes(self, rows: int) -> None:
        """Prompts are encoded."""

    def begins(self, number: int, left_seconds: float) -> None:
        """Wait for a step of the row, then end who made it."""
        del left_seconds
        if self.times.get(number, 0):
            self.times[number] -= 1
            threading.Thread(target=self._kill, args=(number,), daemon=True).start()

    def _kill(self, number: int) -> None:
        folder = self.out / f"{number + 1:04d}"
        before = _saved(folder)
        for _ in range(6000):
            if _saved(folder) != before:
                break
            time.sleep(0.005)
        pid = int((folder / "lock").read_text())
        assert pid != os.getpid()
        os.kill(pid, signal.SIGKILL)
        self.killed.append(number)

    def ended(self, entry: Any) -> None:
        """A row is made."""


def _saved(folder: Path) -> float:
    try:
        return (folder / "state" / "index.json").stat().st_mtime_ns
    except OSError:
        return 0.0


@pytest.mark.wide
class TestLocal:
    """A cluster of this computer alone."""

    def test_a_worker_dies(self, whole: dict[str, bytes], tmp_path: Path) -> None:
        """Its row goes on elsewhere from what it saved; all files are those of a run without."""
        out = tmp_path / "out"
        watch = Killer(out, {1: 1})
        options = Options(ray="local")
        done = batch(REQUEST, rows_file(tmp_path, ROWS), out=out, options=options, watch=watch)
        assert watch.killed == [1]
        assert (done["done"], done["failed"]) == (COUNT, 0)
        assert report_of(out / "0002")["resumed"]
        assert {name: video(out / name) for name in whole} == whole
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"

    def test_a_row_that_kills(self, whole: dict[str, bytes], tmp_path: Path) -> None:
        """After the second time it is set aside with its reason, and made when it is asked for."""
        out = tmp_path / "out"
        watch = Killer(out, {0: 2})
        options = Options(ray="local")
        done = batch(REQUEST, rows_file(tmp_path, ROWS[:3]), out=out, options=options, watch=watch)
        assert (done["done"], done["failed"]) == (2, 1)
        (failure,) = done["failures"]  # type: ignore[misc]
        assert failure["row"] == 1
        assert failure["error"].startswith("its worker died 2 times")
        assert resume_batch(out, on=find_place, ray="none")["done"] == 3
        assert video(out / "0001") == whole["0001"]


@pytest.mark.wide
def test_a_node_dies(whole: dict[str, bytes], tmp_path: Path) -> None:
    """Of two computers, in the middle: the other one makes the rest."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        second = cluster.add_node(num_cpus=1)
        out = tmp_path / "out"
        options = Options(ray=cluster.address)
        watch = NodeKiller(out, cluster, second)
        done = batch(REQUEST, rows_file(tmp_path, ROWS), out=out, options=options, watch=watch)
    finally:
        cluster.shutdown()
    assert watch.gone
    assert (done["done"], done["failed"]) == (COUNT, 0)
    assert {name: video(out / name) for name in whole} == whole


@attrs.define
class NodeKiller:
    """A watch that takes a node away when two rows have begun and one has saved a step."""

    out: Path
    cluster: Any
    node: Any
    gone: bool = False
    sink: None = None
    _begun: int = 0

    def opens(self, count: int) -> None:
        """Rows are there."""

    def encodes(self, rows: int) -> None:
        """Prompts are encoded."""

    def begins(self, number: int, left_seconds: float) -> None:
        """Count."""
        del number, left_seconds
        self._begun += 1
        if self._begun == 4:
            threading.Thread(target=self._remove, daemon=True).start()

    def _remove(self) -> None:
        while not _saved(self.out / "0004"):
            time.sleep(0.005)
        self.cluster.remove_node(self.node, allow_graceful=False)
        self.gone = True

    def ended(self, entry: Any) -> None:
        """A row is made."""


class TestRefused:
    """What is told at once."""

    @pytest.mark.parametrize(
        ("address", "told"),
        [
            ("nowhere", "is not auto, local or HOST:PORT"),
            ("127.0.0.1:1", "Connection refused"),
        ],
    )
    def test_address(self, tmp_path: Path, address: str, told: str) -> None:
        """With what an address may be; the batch can be gone on with on another one."""
        rows = rows_file(tmp_path, ROWS[:1])
        with pytest.raises(InputError, match=told):
            batch(REQUEST, rows, out=tmp_path / "out", options=Options(ray=address))
        status = json.loads((tmp_path / "out" / "batch.json").read_text())["status"]
        assert status == "failed"

    def test_without_ray(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With what to install."""
        monkeypatch.setitem(__import__("sys").modules, "ray", None)
        rows = rows_file(tmp_path, ROWS[:1])
        with pytest.raises(InputError, match="--ray needs Ray") as told:
            batch(REQUEST, rows, out=tmp_path / "out", options=Options(ray="local"))
        assert told.value.hint == "pip install 'wanflow[ray]'"
