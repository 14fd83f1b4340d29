"""What does a trace cost? Per event while a run goes on, and to sum up a million events after it.

`python benchmarks/trace_cost.py [EVENTS]` prints one JSON object; times are medians and ranges.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from wanflow.trace import TraceWriter, inspect, read, summarise
from wanflow.trace.codec import encode
from wanflow.trace.events import Event, Kind, Move, Verb, Workspace

BATCH, REPEATS = 20_000, 7


def event(number: int) -> Event:
    """Make an event of the size that runs have, moves and workspaces in turn."""
    name, ns = f"dit.blocks.{number % 40}", number * 1_000_000
    if number % 2:
        return Workspace(
            name, "denoise", number // 80, "cuda:0", 1_200_000_000, 6_900_000_000, ns, ns + 900_000
        )
    return Move(
        Verb.STREAM, Kind.WEIGHTS, name, "denoise", number // 80, "cpu", "cuda:0",
        717_000_000, 6_900_000_000, ns, ns + 31_000_000, 0, "2 blocks ahead",
    )  # fmt: skip


def times(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Time *work* in seconds, several times, after once to warm up."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}


def microseconds(work: Callable[[], object]) -> dict[str, float]:
    """Time one batch, per event."""
    return {name: each / BATCH * 1e6 for name, each in times(work, REPEATS).items()}


def main(count: int) -> None:
    """Measure and print."""
    events = [event(number) for number in range(BATCH)]
    result: dict[str, object] = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "payload_bytes": statistics.mean(len(encode(each)) for each in events),
        "encode_us": microseconds(lambda: [encode(each) for each in events]),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.msgpack"
        with TraceWriter(Path(folder) / "emit", {}) as writer:
            result["emit_us"] = microseconds(lambda: [writer.emit(each) for each in events])  # type: ignore[func-returns-value]
        with TraceWriter(path, {"budget_tier": "cuda:0"}) as writer:
            for number in range(count):
                writer.emit(event(number))
        summary = summarise(path)
        result |= {"events": summary.events, "file_bytes": summary.file_bytes}
        result["inspect_seconds"] = times(lambda: inspect(path), 3)
        result["read_seconds"] = times(lambda: deque(read(path), maxlen=0), 3)
        result["summary_seconds"] = times(lambda: summarise(path), 3)
    result["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
