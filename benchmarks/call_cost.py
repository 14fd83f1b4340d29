"""What does the executor take a call? A thousand calls with nothing to move, and the bare function.

    python -m benchmarks.call_cost [--pairs 15] [--calls 1000] [--shrink]

The same function in three ways: called in a loop; by the executor with all that a run has around
it (ledger, meter, trace file, what is learned of the machine); the same with a new value a call,
whose memory comes and goes. Nothing moves: no weights. Microseconds a call over the bare function,
the processor's and by the clock, medians of pairs that take turns. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.lib.programs import Calls
from benchmarks.lib.report import spread
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.plan.schedule import Plan
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.scheduler.program import Call, Program, Tensors
from wanflow.scheduler.run.devices import open_device
from wanflow.scheduler.run.executor import Executor
from wanflow.scheduler.run.ledger import Ledger
from wanflow.scheduler.run.streamer import Streamer
from wanflow.session import Request
from wanflow.session.preparing.place import find_place
from wanflow.session.running.lessons import Lessons
from wanflow.trace import TraceWriter
from wanflow.trace.measured import MeasuredPeaks
from wanflow.trace.writer import Tee

_STEPS = 10
CPU = torch.device("cpu")


def in_place(values: Tensors) -> Tensors:
    """Change a value where it lies: it is the same value."""
    return {"loop.x": values["loop.x"].mul_(0.5)}


def anew(values: Tensors) -> Tensors:
    """Make a new value of it."""
    return {"loop.x": values["loop.x"] * 0.5}


def looped(run: Callable[[Tensors], Tensors], count: int) -> Program:
    """A value, and *count* calls of *run* in ten steps."""
    first = Call("first", lambda _: {"loop.x": torch.ones(16)})
    calls = (
        Call("turn", run, ("loop.x",), step=number * _STEPS // count) for number in range(count)
    )
    return Calls("loop", (first, *calls), steps=_STEPS)


def bare(run: Callable[[Tensors], Tensors], count: int) -> None:
    """Do the same in a loop."""
    values: Tensors = {"loop.x": torch.ones(16)}
    with torch.no_grad():
        for _ in range(count):
            values = run(values)


def executed(program: Program, made: Plan, machine: Machine, folder: Path) -> None:
    """Run a plan with all that a run has."""
    with TraceWriter(folder / "trace.msgpack", {}, overwrite=True) as writer:
        sink = Tee((writer, Lessons(machine), MeasuredPeaks()))
        Executor(
            plan=made, programs=(program,), streamer=Streamer({}, {}, open_device(CPU)),
            ledger=Ledger({"cpu": made.budget_bytes}, sink), sink=sink, device=CPU, tier="cpu",
            stop=lambda: None,
        ).run()  # fmt: skip


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    gc.collect()
    began, spent = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - began, time.process_time() - spent


def measured(way: str, run: Callable[[Tensors], Tensors], count: int, pairs: int) -> dict[str, Any]:
    """Take turns with the bare function; the first pair warms up."""
    program = looped(run, count)
    footprint = Profiler("cpu").profile((program,), {}, lambda _: False)
    machine = find_place(Request("t2v-tiny", {}, device="cpu")).machine
    made = plan([footprint], machine, None)
    wall, spent, alone = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(pairs + 1):
            one = timed(lambda: bare(run, count))
            other = timed(lambda: executed(program, made, machine, Path(folder)))
            if number:
                alone.append(one[0] / count * 1e6)
                wall.append((other[0] - one[0]) / count * 1e6)
                spent.append((other[1] - one[1]) / count * 1e6)
    return {
        "case": way, "bare_us": median(alone), "over_us": spread(wall), "over_cpu_us": spread(spent)
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--shrink", action="store_true", help="a fifth of the calls, three pairs")
    given = parser.parse_args()
    count, pairs = (200, 3) if given.shrink else (given.calls, given.pairs)
    ways = {"in place": in_place, "a new value": anew}
    cases = [measured(way, run, count, pairs) for way, run in ways.items()]
    print(json.dumps({"benchmark": "call_cost", "calls": count, "pairs": pairs, "cases": cases}))


if __name__ == "__main__":
    main()
