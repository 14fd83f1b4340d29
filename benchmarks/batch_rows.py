"""Ten rows in one batch, as ten runs, and in a loop over one loaded pipeline: what they cost.

    python -m benchmarks.batch_rows [--rows 10] [--pairs 3] [--shrink]

All as whole processes, in turns: `wanflow batch t2v-tiny` of ten seeds, `wanflow run` for each of
them, and `lib/plain_run.py` with ten seeds, which loads diffusers' pipeline once and writes ten
files with PyAV. wanflow's cache is a folder of the benchmark's own that runs before the first turn
fill; prompts are encoded in every run. `flat` is one batch of many rows: the process's resident
memory when a row ends, and `queue` how long a file of 10,000 rows takes until its first row begins
beside one of a single row. Prints one JSON object, and keeps it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.lib.environment import ROOT, child_environment
from benchmarks.whole_process import GUIDANCE, PROMPT, SEED, STEPS, child, sums

COMMON = [
    "-i", f"steps={STEPS}", "-i", f"guidance={GUIDANCE}", "--device", "cpu", "--no-prompt-cache",
    "--force",
]  # fmt: skip


def rows_file(path: Path, count: int) -> Path:
    """Write rows that differ in their seeds."""
    rows = ({"prompt": PROMPT, "seed": SEED + number} for number in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def batch_words(rows: Path, out: Path) -> list[str]:
    """The command of a batch."""
    return ["-m", "wanflow", "batch", "t2v-tiny", str(rows), *COMMON, "--out", str(out)]


def turns(count: int, pairs: int, folder: Path) -> dict[str, Any]:
    """Ten rows in three ways, in turns."""
    cache, rows = folder / "cache", rows_file(folder / "rows.jsonl", count)

    def batch(number: int) -> dict[str, float]:
        out = folder / f"batch.{number}"
        figures = child(batch_words(rows, out), cache)
        made = json.loads((out / "batch.json").read_text())["rows"]
        return {**figures, "rows_seconds": sum(row["seconds"] for row in made)}

    def singles() -> dict[str, float]:
        words = ["-m", "wanflow", "run", "t2v-tiny", "--prompt", PROMPT, *COMMON]
        out = ["--out", str(folder / "single")]
        seeds = range(SEED, SEED + count)
        each = [child([*words, "--seed", str(seed), *out], cache) for seed in seeds]
        added = {name: sum(row[name] for row in each) for name in ("seconds", "processor_seconds")}
        return {**added, "peak_bytes": max(row["peak_bytes"] for row in each)}

    def loop() -> dict[str, float]:
        return child(["-m", "benchmarks.lib.plain_run", str(folder / "a.mp4"), str(count)], cache)

    batch(-1)
    table = [(batch(number), singles(), loop()) for number in range(pairs)]
    share = {
        f"of_{name}": median(row[0]["seconds"] / row[n]["seconds"] for row in table)
        for n, name in ((1, "single_runs"), (2, "plain_loop"))
    }
    names = ("batch", "single_runs", "plain_loop")
    columns = zip(names, zip(*table, strict=True), strict=True)
    return {"rows": count, **{name: sums(column) for name, column in columns}, "share": share}


def flat(count: int, folder: Path) -> dict[str, Any]:
    """Resident memory of a batch after each row, as the system has it."""
    rows, out = rows_file(folder / "many.jsonl", count), folder / "flat"
    process = started(batch_words(rows, out), folder / "cache")
    seen: dict[int, int] = {}
    while process.poll() is None:
        number = len(seen) + 1
        if (out / f"{number + 1:04d}").exists():
            seen[number] = resident_bytes(process.pid)
        time.sleep(0.005)
    later = [seen[number] for number in sorted(seen) if number >= 20]
    growth = (max(later) / later[0] - 1) if later else 0.0
    return {"rows": count, "resident_bytes": [*seen.values()][:: max(count // 20, 1)],
            "most_over_row_20": growth, "exit": process.returncode}  # fmt: skip


def queue(count: int, folder: Path) -> dict[str, Any]:
    """Until the first row begins, with very many rows and with one; memory at that moment."""
    figures = {}
    for name, rows in (("one", 1), ("many", count), ("one_again", 1), ("many_again", count)):
        out = folder / f"queue.{name}"
        words = batch_words(rows_file(folder / f"{name}.jsonl", rows), out)
        began = time.perf_counter()
        process = started(words, folder / "cache")
        first = out / f"{1:0{max(4, len(str(rows)))}d}" / "trace.msgpack"
        while not first.exists() and process.poll() is None:
            time.sleep(0.002)
        seconds = time.perf_counter() - began
        figures[name] = {"seconds": seconds, "resident_bytes": resident_bytes(process.pid)}
        process.kill()
        process.wait()
    more = min(figures[n]["seconds"] for n in ("many", "many_again")) - min(
        figures[n]["seconds"] for n in ("one", "one_again")
    )
    return {"rows": count, **figures, "seconds_more": more}


def started(words: Sequence[str], cache: Path) -> subprocess.Popen[bytes]:
    """Start a command in the background."""
    return subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=child_environment(XDG_CACHE_HOME=str(cache)),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def resident_bytes(pid: int) -> int:
    """What the system holds in memory for a process."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = next((line for line in text.splitlines() if line.startswith("VmRSS")), "0 0 kB")
    return int(found.split()[1]) * 1024


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--shrink", action="store_true", help="two rows, one turn, 100 rows")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    shrink = asked.shrink
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {
            "turns": turns(2 if shrink else asked.rows, 1 if shrink else asked.pairs, folder),
            "flat": flat(3 if shrink else 200, folder),
            "queue": queue(100 if shrink else 10_000, folder),
        }
    # With PyTorch, and only now: a child's most resident memory begins at its parent's.
    from benchmarks.lib.report import keep, machine_line

    report = {"benchmark": "batch_rows", "machine": machine_line("cpu"), **figures}
    print(json.dumps(report, indent=1))
    keep(report, asked.out)


if __name__ == "__main__":
    main()
