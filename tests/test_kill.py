"""A run that is ended at a random moment can be read and resumed to the same frames and file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import msgpack
import pytest

from wanflow.session.running.saved_state import StateStore
from wanflow.trace import State, TraceReader
from wanflow.trace.events import Move, Verb

SOAK = bool(os.environ.get("SOAK"))
KILLS = 50 if SOAK else 5
STOPS = 10 if SOAK else 1
PARENT = Path(__file__).with_name("kill_parent.py")
CODES = {"SIGINT": 130, "SIGTERM": 143}


@pytest.fixture(scope="module")
def all_runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the parent says: the whole run, the two in one folder, then the ended ones."""
    root = tmp_path_factory.mktemp("kills")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(root / "config")}
    environment["PYTHONPATH"] = str(PARENT.parent.parent)
    signals = ["SIGKILL"] * KILLS + ["SIGINT", "SIGTERM"] * STOPS
    done = subprocess.run(
        [sys.executable, PARENT, root, "7", *signals],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=60 + 10 * len(signals),
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def killed(all_runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The killed runs alone."""
    return [run for run in all_runs[2:] if run["signal"] == "SIGKILL"]


def whole_records(path: Path) -> int:
    """Count the records before the cut with plain msgpack, sharing no code with our reader."""
    count = 0
    with path.open("rb") as file:
        unpacker = msgpack.Unpacker(file, raw=False, strict_map_key=False)
        unpacker.unpack()
        for record in unpacker:  # ends quietly at the cut
            if isinstance(record, dict):
                break
            crc, payload = record
            assert zlib.crc32(payload) == crc
            count += 1
    return count


class TestKilled:
    """SIGKILL."""

    def test_every_record_before_the_cut_is_read(self, killed: list[dict[str, Any]]) -> None:
        """Our reader gives exactly the whole records, and says that the file was cut."""
        assert len(killed) == KILLS
        assert sum(run["status"] == -9 for run in killed) >= KILLS // 2, "the kills came too late"
        for run in killed:
            path = Path(run["run"]) / "trace.msgpack"
            with TraceReader(path) as reader:
                events = list(reader)
                info = reader.info()
            assert len(events) == whole_records(path)
            assert info.records == len(events)
            if run["status"] == -9 and info.state is not State.WHOLE:
                assert info.state is State.CUT
                assert not (Path(run["run"]) / "run.json").exists()

    def test_memory_is_conserved_up_to_the_cut(self, killed: list[dict[str, Any]]) -> None:
        """What was placed less what was freed is what the last move says is resident."""
        for run in killed:
            resident = 0
            with TraceReader(Path(run["run"]) / "trace.msgpack") as reader:
                for event in reader:
                    if isinstance(event, Move) and event.tier == "cpu":
                        resident += -event.nbytes if event.verb is Verb.FREE else event.nbytes
                        assert event.resident_bytes == resident

    def test_the_state_is_whole(self, killed: list[dict[str, Any]]) -> None:
        """Whenever the kill came: no state yet, or every value of it with its digest."""
        steps = set()
        for run in killed:
            saved = StateStore(Path(run["run"]) / "state").load()
            steps.add(None if saved is None else (saved.boundary.stage, saved.boundary.step))
        assert len(steps) > 1, "the kills all came at one place"

    def test_resumed_to_the_same_frames_and_file(self, all_runs: list[dict[str, Any]]) -> None:
        """Before encoding and after it, with nothing half-written left."""
        whole, _, *others = all_runs
        assert whole["frames"]
        for run in others:
            assert run["resumed"] == 0
            assert run["video"] == whole["video"]
            assert run["frames"] in {whole["frames"], ""}  # "": it was done already
            assert run["orphans"] == ""


def test_stopped(all_runs: list[dict[str, Any]]) -> None:
    """Ctrl-C and SIGTERM: at once, the exit code, and the command that goes on."""
    stopped = [run for run in all_runs[2:] if run["signal"] in CODES]
    assert any(run["status"] for run in stopped)
    for run in stopped:
        assert run["status"] in {CODES[run["signal"]], 0}
        assert run["seconds"] < 1.5
        if run["status"] and (Path(run["run"]) / "state" / "index.json").exists():
            error = json.loads(Path(run["run"] + ".err").read_text())["error"]
            assert error["resume"] == error["hint"] == f"wanflow resume {run['run']}"
            assert error["exit_code"] == run["status"]


def test_two_in_one_folder(all_runs: list[dict[str, Any]]) -> None:
    """One wins and is not disturbed; the other exits 2 with the winner's number."""
    codes, errors = all_runs[1]["codes"], all_runs[1]["errors"]
    assert sorted(codes) == [0, 2]
    assert errors[codes.index(0)] == ""
    error = json.loads(errors[codes.index(2)])["error"]
    assert (error["code"], error["exit_code"]) == ("run-locked", 2)
    assert re.search(r"rivals: process \d+ is running there", error["message"])
