"""What does a command cost as a whole process? `run t2v-tiny` beside a plain script; `plan`.

    python -m benchmarks.whole_process [--pairs 5] [--shrink]

Each pair runs `wanflow run t2v-tiny` with everything resident and then `lib/plain_run.py`, which
does the same with diffusers' pipeline and PyAV on the same weights. Seconds, processor seconds and
the most resident memory are those that the system gives of the child (`wait4`). wanflow's cache is
a folder of the benchmark's own: the runs before the first pair fill it, and the very first run is
told by itself. Prompts are encoded in every run. `plan` is that of t2v-14b at 1280*720 in 8 GiB of
an RTX 4090: cold, with an empty cache, and warm. Prints one JSON object, and keeps it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.lib.environment import ROOT, child_environment

PROMPT, SEED, STEPS, GUIDANCE = "a red circle moves right", 11, 8, 5.0
RUN = [
    "run", "t2v-tiny", "--prompt", PROMPT, "--seed", str(SEED), "-i", f"steps={STEPS}",
    "-i", f"guidance={GUIDANCE}", "--device", "cpu", "--no-prompt-cache", "--force",
]  # fmt: skip
PLAN = ["plan", "t2v-14b", "-i", "size=1280*720", "--vram", "8GiB", "--machine", "rtx4090"]
SMALL = ["plan", "t2v-1.3b", "-i", "frames=5", "--vram", "8GiB", "--machine", "rtx4090"]
Figures = dict[str, float]


def child(words: Sequence[str], cache: Path) -> Figures:
    """Run a command to its end: its seconds, those of the processor, its most resident memory."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=child_environment(XDG_CACHE_HOME=str(cache)),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}: exit {process.returncode}")
    return {
        "seconds": seconds,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": float(used.ru_maxrss * 1024),
    }


def sums(rows: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Median and range of each figure."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: {"median": median(column), "fastest": min(column), "slowest": max(column)}
        for name, column in columns.items()
    }


def run_pairs(pairs: int, folder: Path) -> dict[str, Any]:
    """Both sides in turns, after runs that fill caches; shares by the pair."""
    ours = ["-m", "wanflow", *RUN, "--out", str(folder / "run")]
    plain = ["-m", "benchmarks.lib.plain_run", str(folder / "plain.mp4")]
    cache = folder / "cache"
    first = child(ours, cache)
    for words in (ours, plain):
        child(words, cache)
    rows = [(child(ours, cache), child(plain, cache)) for _ in range(pairs)]
    shares = {n: median(mine[n] / theirs[n] for mine, theirs in rows) for n in first}
    return {
        "wanflow_first": first, "wanflow": sums([mine for mine, _ in rows]),
        "plain": sums([theirs for _, theirs in rows]), "share": shares,
    }  # fmt: skip


def plans(repeats: int, folder: Path, *, shrink: bool) -> dict[str, Any]:
    """A cold plan and a warm one, *repeats* times."""
    cold, warm = [], []
    for number in range(repeats):
        cache = folder / f"plans.{number}"
        words = ["-m", "wanflow", *(SMALL if shrink else PLAN)]
        cold.append(child(words, cache))
        warm.append(child(words, cache))
    return {"cold": sums(cold), "warm": sums(warm)}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--shrink", action="store_true", help="one pair, and a plan of t2v-1.3b")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    pairs = 1 if asked.shrink else asked.pairs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = {
            "run": run_pairs(pairs, folder),
            "plan": plans(pairs, folder, shrink=asked.shrink),
        }
    # With PyTorch, and only now: a child's most resident memory begins at its parent's.
    from benchmarks.lib.report import keep, machine_line

    report = {
        "benchmark": "whole_process", "machine": machine_line("cpu"), "pairs": pairs, **figures,
    }  # fmt: skip
    print(json.dumps(report, indent=1))
    keep(report, asked.out)


if __name__ == "__main__":
    main()
