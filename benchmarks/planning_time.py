"""Time planning, with a cold footprint cache and with a warm one.

    python -m benchmarks.planning_time [--repeats 3] [--shrink]

Each figure is of a process of its own, timed from the end of its imports to the plan: t2v-14b at
1280*720, 81 frames, 50 steps for an RTX 4090, no weights on disk. Prints one JSON object, which
goes into benchmarks/results/ too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.lib.environment import ROOT
from benchmarks.lib.report import keep, machine_line, spread
from wanflow.files.cache import held
from wanflow.session import Request, plan
from wanflow.session.planning import planned as planning

FULL = Request(
    "t2v-14b", {"size": "1280*720", "frames": 81, "steps": 50}, vram="24GiB", machine="rtx4090"
)
TINY = Request("t2v-tiny", vram="24GiB", machine="rtx4090")


def measure(request: Request) -> dict[str, float]:
    """Plan once; the seconds in all, of the footprints among them, and of the planner alone."""
    import transformers.models.umt5.modeling_umt5  # noqa: F401 - before the clock starts

    began = time.perf_counter()
    planned = plan(request)
    total = time.perf_counter() - began
    began = time.perf_counter()
    planning.replanned(planned, planned.prepared.place.usable_bytes - 1)  # a plan not made yet
    alone = time.perf_counter() - began
    return {"total_s": total, "planner_s": alone, "calls": len(planned.plan.turns)}


def child(cache: str, *, shrink: bool) -> dict[str, float]:
    """Plan in a process of its own, with its footprint cache under *cache*."""
    command = [sys.executable, "-m", "benchmarks.planning_time", "--child"]
    done = subprocess.run(
        [*command, *(["--shrink"] if shrink else [])],
        capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": cache, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(repeats: int, *, shrink: bool) -> dict[str, Any]:
    """Plan cold and then warm, *repeats* times."""
    cold, warm = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(child(cache, shrink=shrink))
            warm.append(child(cache, shrink=shrink))
            kept = held(Path(cache) / "wanflow" / "footprints")
    return {
        "cold": spread([each["total_s"] for each in cold]),
        "warm": spread([each["total_s"] for each in warm]),
        "planner_alone": spread([each["planner_s"] for each in (*cold, *warm)]),
        "calls": cold[0]["calls"],
        "cache": {"files": kept.files, "nbytes": kept.nbytes},
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shrink", action="store_true", help="the tiny graph, once")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    request = TINY if asked.shrink else FULL
    if asked.child:
        print(json.dumps(measure(request)))
        return
    report = {
        "benchmark": "planning_time", "machine": machine_line("cpu"), "graph": request.graph,
        "inputs": request.inputs, "planned_for": request.machine,
        **compare(1 if asked.shrink else asked.repeats, shrink=asked.shrink),
    }  # fmt: skip
    print(json.dumps(report, indent=1))
    keep(report, asked.out)


if __name__ == "__main__":
    main()
