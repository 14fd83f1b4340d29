"""Time the answers that need no model: that is how long a person waits for them.

    python benchmarks/cli_startup.py [RUNS]

Each command runs once to warm the file cache and then RUNS times (11) as a process of its own.
Prints one JSON object: for each command the median, and the spread from fastest to slowest.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from wanflow.trace import TraceWriter
from wanflow.trace.events import Kind, Move, Verb

ROOT = Path(__file__).parents[1]
EVENTS = 10_000


def write_trace(path: Path) -> None:
    """Write a trace as long as that of a real run."""
    writer = TraceWriter(path, {"graph": "bench", "device": "cpu", "budget_bytes": 2**33})
    for n in range(EVENTS):
        at, kind = n * 10**6, Kind.WEIGHTS
        writer.emit(Move(Verb.STREAM, kind, f"dit.{n % 40}", "denoise", n // 40, "host", "cpu",
                         2**29, 2**30, at, at + 10**5, 0, "next block"))  # fmt: skip
    writer.close("ok", {})


def seconds(command: list[str]) -> float:
    """Time one process from start to end."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - began


def measure(words: list[str], runs: int) -> dict[str, float]:
    """Time a command line: one run to warm up, then *runs* that count."""
    command = [sys.executable, "-m", "wanflow", *words]
    seconds(command)
    times = sorted(seconds(command) for _ in range(runs))
    return {
        "median_seconds": round(median(times), 4),
        "fastest_seconds": round(times[0], 4),
        "slowest_seconds": round(times[-1], 4),
    }


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.msgpack"
        write_trace(trace)
        commands = {
            "--help": ["--help"],
            "graph check t2v-tiny": ["graph", "check", "t2v-tiny"],
            f"trace summary ({EVENTS} events)": ["trace", "summary", str(trace)],
        }
        found = {name: measure(words, runs) for name, words in commands.items()}
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "os": platform.system()}
    print(json.dumps({"benchmark": "cli_startup", "machine": machine, "runs": runs, **found}))


if __name__ == "__main__":
    main()
