"""What share of a run is it to see that what steps leave is finite? The same plan with and without.

    python -m benchmarks.finite_share [--pairs 5] [--scratch DIR] [--shrink]

The graphs are those of `trace_share`: `t2v-tiny`, and two layers of Wan2.1 1.3B's transformer at
480*272. Each is planned once; runs that look and runs that don't take turns, and in one more each
look is timed. Seconds are the processor's, of one thread: other work on the machine is not in them.
Prints a line a graph, then one JSON object, which goes into benchmarks/results/ too.
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
from unittest import mock

import torch

from benchmarks.lib.report import keep, machine_line, spread
from benchmarks.trace_share import dropped, jobs
from wanflow.scheduler.run.finite_check import FiniteCheck
from wanflow.session import Request
from wanflow.session.planning.planned import Planned, plan_prepared
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare

_LOOK = FiniteCheck.look
Look = Callable[[FiniteCheck, torch.Tensor, str], None]


def nothing(_check: FiniteCheck, _tensor: torch.Tensor, _name: str) -> None:
    """Look at nothing."""


def timed(into: list[float]) -> Look:
    """Look, and put down how long it took."""

    def look(check: FiniteCheck, tensor: torch.Tensor, name: str) -> None:
        began = time.thread_time()
        _LOOK(check, tensor, name)
        into.append(time.thread_time() - began)

    return look


def seconds(planned: Planned, look: Look) -> float:
    """Run once; give what it took of the processor."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(FiniteCheck, "look", look):
        gc.collect()
        began = time.process_time()
        dropped(planned, Path(folder))
        return time.process_time() - began


def measured(name: str, request: Request, pairs: int) -> dict[str, Any]:
    """Plan once, then run in turns; the first pair warms up."""
    planned = plan_prepared(prepare(request, find_place(request), to_run=True))
    ways: dict[str, Look] = {"unlooked": nothing, "looked": _LOOK}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(pairs + 1):
        for way in list(ways)[:: -1 if number % 2 else 1]:
            spent = seconds(planned, ways[way])
            if number:
                taken[way].append(spent)
    looks: list[float] = []
    spent = seconds(planned, timed(looks))
    over = [a / b - 1 for a, b in zip(taken["looked"], taken["unlooked"], strict=True)]
    return {
        "case": name, "looks": len(looks), "look_us": median(looks) * 1e6,
        "share": sum(looks) / spent,
        **{f"{way}_seconds": spread(each) for way, each in taken.items()},
        "looked_over_unlooked": spread(over),
    }  # fmt: skip


def main(given: argparse.Namespace) -> None:
    """Measure, print and keep."""
    torch.set_num_threads(1)
    asked, pairs = jobs(given)
    rows = [measured(name, request, pairs[name]) for name, request in asked.items()]
    for row in rows:
        print(
            f"{row['case']}: {row['looks']} looks of {row['look_us']:.1f} us are "
            f"{row['share']:.3%} of the run; with over without "
            f"{row['looked_over_unlooked']['median']:+.2%}"
        )
    about = {"benchmark": "finite_share", "machine": machine_line("cpu"), "pairs": pairs}
    keep({**about, "rows": rows}, given.out)
    print(json.dumps({**about, "rows": rows}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/wf-scratch"))  # noqa: S108
    parser.add_argument("--out", type=Path, help="the JSON file [benchmarks/results/...]")
    parser.add_argument("--shrink", action="store_true", help="a tiny transformer, two steps")
    main(parser.parse_args())
