"""What share of a run does its trace take? The same plan run with its trace, and with none.

    python -m benchmarks.trace_share [--pairs 5] [--scratch DIR] [--shrink]

Two graphs: `t2v-tiny`, whose calls take a fifth of a millisecond, and two layers of Wan2.1 1.3B's
transformer at 480*272, whose calls are of a real size. Each is planned once; then runs whose events
go into a trace file and runs whose events are dropped take turns, and in one more each event is
timed. Seconds are the processor's, of one thread: other work on the machine is not in them. Prints
a line a graph, then one JSON object, which goes into benchmarks/results/ too.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import torch

from benchmarks.lib.cases import Case, tiny
from benchmarks.lib.report import keep, machine_line, spread
from wanflow.session import Request
from wanflow.session.planning.planned import Planned, plan_prepared
from wanflow.session.planning.record import record_footprints
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare
from wanflow.session.running.retry import execute
from wanflow.session.running.trace_header import trace_header
from wanflow.trace import TraceSink, TraceWriter, inspect, read
from wanflow.trace.events import Event, FootprintRows

CASE = Case("1.3b-2-layers", "wan2.1-t2v-1.3b", "480*272", 9, 1, 5.0, "fp32", layers=2)
_AGAIN = 50
_SHORT = 2  # so many pairs of the short run for each of the long one
Row = dict[str, Any]


class Dropped:
    """A sink that keeps nothing."""

    def emit(self, event: Event) -> None:
        """Do nothing."""


@attrs.define
class Timed:
    """Passes events on; times that, and making each once more."""

    sink: TraceSink
    ns: int = 0
    events: int = 0

    def emit(self, event: Event) -> None:
        """Time one event."""
        began = time.thread_time_ns()
        type(event)(**vars(event))
        self.sink.emit(event)
        self.ns += time.thread_time_ns() - began
        self.events += 1


def dropped(planned: Planned, folder: Path) -> None:
    """Run without a trace."""
    execute(planned, folder, Dropped(), None, _never)


def traced(planned: Planned, folder: Path) -> None:
    """Run with the trace of every run, opened and closed."""
    with TraceWriter(folder / "trace.msgpack", trace_header(planned)) as writer:
        record_footprints(planned, writer)
        execute(planned, folder, writer, None, _never)


def itemised(planned: Planned, folder: Path) -> Row:
    """Run once more, each event timed as the run comes to it, caches cold from its work."""
    began = time.process_time()
    with TraceWriter(folder / "trace.msgpack", trace_header(planned)) as writer:
        record_footprints(planned, writer)
        first = time.process_time()
        timed = Timed(writer)
        execute(planned, folder, timed, None, _never)
        executed = time.process_time()
    seconds, spent = time.process_time() - began, timed.ns / 1e9
    around = seconds - (executed - first)
    again = repeated(folder / "trace.msgpack", folder / "again")
    return {
        "events": timed.events,
        "event_us": again * 1e6,
        "event_us_in_the_run": spent / timed.events * 1e6,
        "around_seconds": around,  # the file opened and closed, the footprints in it
        "share": (timed.events * again + around) / seconds,
        "share_in_the_run": (spent + around) / seconds,
        "file_bytes": inspect(folder / "trace.msgpack").file_bytes,
    }


def repeated(trace: Path, path: Path) -> float:
    """Make and write the events of a run once more, nothing else between them: seconds an event."""
    events = [event for event in read(trace) if not isinstance(event, FootprintRows)]
    with TraceWriter(path, {}) as writer:
        began = time.process_time()
        for event in events * _AGAIN:
            type(event)(**vars(event))
            writer.emit(event)
        return (time.process_time() - began) / len(events) / _AGAIN


def measured(name: str, request: Request, pairs: int) -> Row:
    """Plan once, then run in turns; the first pair warms up."""
    planned = plan_prepared(prepare(request, find_place(request), to_run=True))
    ways = {"dropped": dropped, "traced": traced}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(pairs + 1):
        for way in list(ways)[:: -1 if number % 2 else 1]:
            with tempfile.TemporaryDirectory() as folder:
                gc.collect()
                began = time.process_time()
                ways[way](planned, Path(folder))
                if number:
                    found[way].append(time.process_time() - began)
    with tempfile.TemporaryDirectory() as folder:
        items = itemised(planned, Path(folder))
    over = [a / b - 1 for a, b in zip(found["traced"], found["dropped"], strict=True)]
    return {
        "case": name, "calls": len(planned.plan.footprint.calls), **items,
        **{f"{way}_seconds": spread(each) for way, each in found.items()},
        "traced_over_dropped": spread(over),
    }  # fmt: skip


def _never() -> None:
    """Nobody asks this run to stop."""


def jobs(given: argparse.Namespace) -> tuple[dict[str, Request], dict[str, int]]:
    """What is run, by name, and how many pairs of runs of each."""
    small = Request("t2v-tiny", device="cpu", exact=True, prompt_cache=False)
    if given.shrink:
        small = attrs.evolve(small, inputs={"steps": 2})
    case = tiny(CASE) if given.shrink else CASE
    graph, _ = case.files(given.scratch)
    asked = {"t2v-tiny": small, case.name: case.request(graph, "cpu", "auto")}
    return asked, {"t2v-tiny": _SHORT * given.pairs, case.name: given.pairs}


def main(given: argparse.Namespace) -> None:
    """Measure, print and keep."""
    torch.set_num_threads(1)
    asked, pairs = jobs(given)
    rows = [measured(name, request, pairs[name]) for name, request in asked.items()]
    result = {
        "benchmark": "trace_share", "machine": machine_line("cpu"), "pairs": pairs,
        "rows": rows,
    }  # fmt: skip
    for row in rows:
        print(
            f"{row['case']}: {row['events']} events of {row['event_us']:.1f} us are "
            f"{row['share']:.2%} of the run; of {row['event_us_in_the_run']:.1f} us, caches cold, "
            f"{row['share_in_the_run']:.2%}; traced over dropped "
            f"{row['traced_over_dropped']['median']:+.2%}"
        )
    keep(result, given.out)
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/wf-scratch"))  # noqa: S108
    parser.add_argument("--out", type=Path, help="the JSON file [benchmarks/results/...]")
    parser.add_argument("--shrink", action="store_true", help="a tiny transformer, two steps")
    main(parser.parse_args())
