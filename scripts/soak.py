"""A queue for hours, and other commands on the same caches all the while: nothing may grow.

    python -m scripts.soak [--hours 8] [--out DIR]

One process makes rows of `t2v-tiny`, each with a seed of its own. Beside it one command after the
other runs, plans and reads traces, at budgets that change, with the same configuration and caches.
Every half minute the queue's resident memory, open files and threads and the caches' sizes go into
`samples.jsonl` of DIR; a soak that was stopped goes on there. Exit 1 where the second half of the
queue has more of any of them than the first, where a command failed, or where a part of a file was
left.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import attrs

_EVERY_SECONDS = 30.0
_ROWS = 40_000  # more than there is time for
_MOST_GROWTH = 0.01  # of resident memory, from the first half's median to the second's
_SIZE = ["-i", "size=32*32", "-i", "steps=2", "--device", "cpu"]
_SMALL = [*_SIZE, "-i", "frames=5"]
_WANFLOW = [sys.executable, "-m", "wanflow"]


@attrs.frozen
class Sample:
    """The queue's process and the folders that all share, at a moment; bytes and counts."""

    at: float
    rows: int
    resident_bytes: int
    files: int
    threads: int
    cached_bytes: int
    cached_files: int


def main() -> int:
    """Soak, tell, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("runs/soak"))
    given = parser.parse_args()
    out: Path = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    around = _around(out)
    queue = subprocess.Popen(
        [*_WANFLOW, *_queue(out)], env=around, cwd=out,
        stdout=subprocess.DEVNULL, stderr=(out / "queue.err").open("wb"),
    )  # fmt: skip
    until = time.time() + 3600 * given.hours
    failed = _soak(queue, out, around, until)
    queue.send_signal(signal.SIGINT)
    code = queue.wait()
    if code not in (0, 130):
        failed.append(f"the queue ended with {code}: {(out / 'queue.err').read_text()[-400:]}")
    return _judge(out, failed)


def _around(out: Path) -> dict[str, str]:
    homes = {f"XDG_{name}_HOME": str(out / name.lower()) for name in ("CONFIG", "CACHE", "DATA")}
    return {**os.environ, **homes, "WANFLOW_PROBE": "off", "PYTHONPATH": os.pathsep.join(sys.path)}


def _queue(out: Path) -> list[str]:
    if (out / "queue" / "batch-request.json").exists():
        return ["resume", "queue"]
    rows = out / "rows.jsonl"
    rows.write_text("".join(f'{{"seed": {number}}}\n' for number in range(_ROWS)))
    return ["batch", "t2v-tiny", str(rows), *_SMALL, "--out", "queue"]


def _soak(
    queue: subprocess.Popen[bytes], out: Path, around: dict[str, str], until: float
) -> list[str]:
    """Give commands one after the other, and look at the queue, until it is time."""
    failed: list[str] = []
    commands, said = _commands(random.Random(1)), 0.0  # noqa: S311 - budgets, not secrets
    with (out / "samples.jsonl").open("a") as samples:
        while time.time() < until and queue.poll() is None and len(failed) < 3:
            words = next(commands)
            done = subprocess.run(
                [*_WANFLOW, *words], env=around, cwd=out, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            if done.returncode:
                failed.append(f"{' '.join(words)}: exit {done.returncode}: {done.stderr[-400:]}")
            if time.time() - said > _EVERY_SECONDS and (sample := _look(queue.pid, out)):
                samples.write(json.dumps(attrs.astuple(sample)) + "\n")
                samples.flush()
                said = time.time()
    return failed


def _commands(choice: random.Random) -> Iterator[list[str]]:
    for number in itertools.count():
        budget, seed = f"{choice.randint(8, 40)}MiB", str(choice.randint(0, 9))
        yield ["run", "t2v-tiny", *_SMALL, "--vram", budget, "--seed", seed, "--out", "beside",
               "--force"]  # fmt: skip
        yield ["trace", "summary", "beside/trace.msgpack"]
        yield ["plan", "t2v-1.3b", "--machine", "rtx4090", "--vram", f"{2 + number % 7}GiB"]
        words = ["plan", "t2v-tiny", *_SIZE, "--vram", budget]
        yield [*words, "-i", f"frames={5 + 4 * (number % 9)}"]


def _look(pid: int, out: Path) -> Sample | None:
    """Look at the queue; None where it has just ended."""
    try:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        files = len([*Path(f"/proc/{pid}/fd").iterdir()])
    except OSError:
        return None
    cached = [p.stat().st_size for p in _files(out / "cache")]
    rows = sum(1 for path in (out / "queue").iterdir() if path.name.isdigit())
    return Sample(
        time.time(), rows, int(status["VmRSS"].split()[0]) * 1024, files,
        int(status["Threads"]), sum(cached), len(cached),
    )  # fmt: skip


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _judge(out: Path, failed: Sequence[str]) -> int:
    lines = (out / "samples.jsonl").read_text().splitlines()
    seen = [Sample(*json.loads(line)) for line in lines]
    if len(seen) < 8:
        failed = [*failed, f"{len(seen)} looks are too few to tell"]
    else:
        failed = [*failed, *_grown(seen[len(seen) // 10 :])]
    left = [p for p in (*_files(out / "cache"), *_files(out / "config")) if ".part" in p.name]
    failed = [*failed, *(f"left over: {path.relative_to(out)}" for path in left)]
    print("\n".join(failed) or "nothing has grown")
    return int(bool(failed))


def _grown(seen: Sequence[Sample]) -> list[str]:
    """Compare the halves; a restart of the queue begins a new process with other figures."""
    half = len(seen) // 2
    first, second = seen[:half], seen[half:]
    print(f"{len(seen)} looks over {(seen[-1].at - seen[0].at) / 3600:.2f} h, {seen[-1].rows} rows")
    grown = []
    for field, most in (("resident_bytes", _MOST_GROWTH), ("files", 0), ("threads", 0)):
        before, after = (median(getattr(s, field) for s in part) for part in (first, second))
        print(f"{field}: {before:,.0f}, then {after:,.0f}")
        if after > before * (1 + most):
            grown.append(f"{field} grew from {before:,.0f} to {after:,.0f}")
    last = seen[-1]
    print(f"caches: {last.cached_bytes:,} bytes in {last.cached_files} files")
    return grown


if __name__ == "__main__":
    sys.exit(main())
