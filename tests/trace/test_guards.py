"""What a kill, a full disk and wrong bytes can do to a trace: not much."""

import json
import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import attrs
import pytest

from wanflow.errors import InputError
from wanflow.trace import State, inspect, read, summarise
from wanflow.trace.events import Kind, Move, Verb
from wanflow.trace.framing import FORMAT, MAX_RECORD_BYTES, frame, pack, seal

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


GOOD = Move(Verb.FREE, Kind.STATE, "a", "b", 1, "", "cpu", 1, 1, 1, 1, 1, "")
START = seal({"format": FORMAT, "version": 1, "budget_bytes": 1})
# What one record, header or trailer may hold, so that no file makes a reader allocate more than a
# few MiB: each value here is one past a limit, or of a kind that no event has.
PAST = {
    "items": b"\xdc\x10\x01" + b"\xc0" * 4097,
    "keys": b"\xde\x00\x41" + b"".join(pack(f"k{n}") + b"\xc0" for n in range(65)),
    "characters": pack("x" * (64 * 1024 + 1)),
    "levels": b"\x91" * 9 + b"\xc0",
    "binary": b"\xc4\x01a",
    "extension": b"\xd4\x01a",
    "no-number": pack(float("nan")),
}


def state_of(path: Path, data: bytes) -> str:
    """Sum *data* up; anything but InputError escapes and fails the test."""
    path.write_bytes(data)
    try:
        summary = summarise(path)
    except InputError:
        return "refused"
    json.dumps(summary.to_dict(), allow_nan=False)
    return summary.state


class TestLimits:
    """Bytes that are just past what a trace may hold."""

    @pytest.mark.parametrize("name", PAST)
    def test_a_value_past_a_limit_is_damage(self, tmp_path, name) -> None:
        """In a record and in a trailer the file is read up to it; a header makes it no trace."""
        value, path = PAST[name], tmp_path / "t"
        sound = frame(pack(["move", *attrs.astuple(GOOD)]))
        assert state_of(path, START + sound + frame(value)) == "damaged"
        assert inspect(path).records == 1
        assert state_of(path, START + sound + b"\xde\x00\x01\xa1a" + value) == "damaged"
        assert "checksum" not in inspect(path).problem
        header = b"\xde\x00\x02" + START[3:24] + b"\xa1a" + value
        assert state_of(path, header) in ("refused", "damaged")

    def test_a_record_past_the_limit_is_not_read(self, tmp_path) -> None:
        """Nor does its claim make anybody allocate."""
        assert (
            state_of(tmp_path / "t", START + frame(b"\xc0" * (MAX_RECORD_BYTES + 1))) == "damaged"
        )

    def test_the_largest_record_takes_little_memory(self, tmp_path) -> None:
        """A quarter MiB of empty lists is the most that a record can become."""
        full = b"\xdc\x00\x3c" + (b"\xdc\x10\x00" + b"\x90" * 4096) * 60
        tracemalloc.start()
        try:
            assert state_of(tmp_path / "t", START + frame(full)) == "damaged"
            assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
        finally:
            tracemalloc.stop()


class TestWrongFields:
    """Sound records whose fields are not those of an event."""

    def test_only_input_errors(self, tmp_path) -> None:
        """The file is damaged, or the event is one after all; no other error escapes."""
        rng = random.Random(11)  # noqa: S311
        wrong = (0, 1, -1, 2**63, 1.5, float("nan"), True, None, "stream", [], [[1]], {"a": {}})
        states = set()
        for _ in range(500):
            fields: list[object] = ["move", *attrs.astuple(GOOD)]
            for _ in range(rng.randrange(3)):
                fields[rng.randrange(len(fields))] = rng.choice(wrong)
            length = rng.choice([len(fields), len(fields), rng.randrange(len(fields) + 1)])
            states.add(state_of(tmp_path / "t", START + frame(pack(fields[:length]))))
        assert states == {"cut", "damaged"}
