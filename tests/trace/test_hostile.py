"""What a kill, a full disk and an attacker can do to a trace: not much."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wanflow.trace import State, inspect, read
from wanflow.trace.events import Move

HERE = Path(__file__).parent


def child(script: str, *args: object) -> list[str]:
    """Give the command that runs one of the scripts beside this file."""
    return [sys.executable, str(HERE / script), *map(str, args)]


def steps(path: Path) -> list[int]:
    """Read the running numbers of a trace."""
    return [event.step for event in read(path) if isinstance(event, Move)]


class TestKill:
    """SIGKILL, which no process can prepare for."""

    @pytest.mark.parametrize("seed", range(5))
    def test_every_record_before_the_kill_is_read(self, tmp_path, child_env, seed) -> None:
        """The numbers run without a gap up to the kill, and at most one record is lost."""
        path = tmp_path / "trace.msgpack"
        writer = subprocess.Popen(child("child_writer.py", path, 0), env=child_env)
        while not path.exists() or path.stat().st_size < 10_000:
            time.sleep(0.005)
        time.sleep(random.Random(seed).uniform(0, 0.3))  # noqa: S311
        writer.kill()
        writer.wait()

        found = inspect(path)
        assert list(range(found.records)) == steps(path)
        assert found.records > 50
        assert found.state is State.CUT
        assert found.lost_bytes < 200


class TestFullDisk:
    """A limit on the size of files fails as a full disk does: a short write, then an error."""

    @pytest.mark.parametrize("limit", [20_000, 20_001, 20_050, 100])
    def test_the_run_goes_on(self, tmp_path, child_env, limit) -> None:
        """The writer warns once, the file ends with its last whole record."""
        path = tmp_path / "trace.msgpack"
        done = subprocess.run(
            child("child_writer.py", path, limit),
            env=child_env, capture_output=True, text=True, check=True,
        )  # fmt: skip
        records, problem = done.stdout.splitlines()

        assert f"stops after {records} events" in problem
        assert path.stat().st_size <= limit
        if limit > 1000:
            assert steps(path) == list(range(int(records)))
            assert inspect(path).lost_bytes == 0


class TestFuzz:
    """Files made to break the reader."""

    def test_only_input_errors_and_little_memory(self, child_env) -> None:
        """20,000 files and the bombs: no other error escapes, and the process stays small."""
        done = subprocess.run(
            child("child_fuzz.py", 11),
            env=child_env, capture_output=True, text=True, check=False,
        )  # fmt: skip

        assert done.stderr == ""
        told = json.loads(done.stdout)
        assert told["grown_kib"] < 64 * 1024
        assert set(told["results"]) == {"refused", "cut", "damaged"}
