"""SIGKILL at random moments leaves a trace whose every record before the cut is read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import msgpack
import pytest

from wanflow.trace import State, TraceReader

RUNS = 30 if os.environ.get("SOAK") else 5
PARENT = Path(__file__).with_name("kill_parent.py")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The killed runs: folder, delay, and whether the kill came before the end."""
    root = tmp_path_factory.mktemp("kills")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, PARENT, root, str(RUNS), "7"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=60 + 10 * RUNS,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


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


def test_every_record_before_the_cut_is_read(killed: list[dict[str, Any]]) -> None:
    """Our reader gives exactly the whole records, and says that the file was cut."""
    assert len(killed) == RUNS
    assert sum(run["killed"] for run in killed) >= RUNS // 2, "the kills came too late to mean much"
    for run in killed:
        path = Path(run["run"]) / "trace.msgpack"
        with TraceReader(path) as reader:
            events = list(reader)
            info = reader.info()
        assert len(events) == whole_records(path)
        assert info.records == len(events)
        if run["killed"]:
            assert info.state is State.CUT
            assert not (Path(run["run"]) / "video.mp4").exists()


def test_memory_is_conserved_up_to_the_cut(killed: list[dict[str, Any]]) -> None:
    """What was placed less what was freed is what the last move says is resident."""
    from wanflow.trace.events import Move, Verb

    for run in killed:
        resident = 0
        with TraceReader(Path(run["run"]) / "trace.msgpack") as reader:
            for event in reader:
                if isinstance(event, Move) and event.tier == "cpu":
                    resident += -event.nbytes if event.verb is Verb.FREE else event.nbytes
                    assert event.resident_bytes == resident
