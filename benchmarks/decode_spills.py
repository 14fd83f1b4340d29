"""What does decoding move at tight budgets? Plans of t2v-14b for an RTX 4090, nothing is run.

    python -m benchmarks.decode_spills [--against CHECKOUT] [--repeats 3] [--shrink] [--out FILE]

At the smallest budget and at some above, for 832*480 and 1280*720 and 81 frames: the bytes of
values that decoding gets back from the host, those of weights that it reads again, and the plan's
seconds. Then what a first plan takes, with nothing kept from an earlier one. For an older commit:

    git worktree add ../before COMMIT
    python -m benchmarks.decode_spills --against ../before

plans with both packages, in turns, at the same budgets, the older one's minimum among them. Prints
a JSON line a plan and then one of all, which goes into benchmarks/results/ too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.lib.environment import ROOT
from benchmarks.lib.report import keep, machine_line, spread

GIB = 1 << 30
SIZES = ("832*480", "1280*720")
ABOVE = (2 * GIB, 5 * GIB // 2, 3 * GIB, 4 * GIB, 8 * GIB)
Row = dict[str, Any]

# What one process does: it holds for every commit that has `Request`, `plan` and their report.
CHILD = """
import json, sys, time
import transformers.models.umt5.modeling_umt5
from wanflow.session import Request, plan
graph, inputs, vram = json.loads(sys.argv[1])
began = time.perf_counter(), time.process_time()
planned = plan(Request(graph, inputs, vram=vram, machine="rtx4090"))
wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
report = planned.report
decode = next(s for s in report["stages"] if s["stage"] == "decode")
print(json.dumps({
    "minimum_bytes": report["minimum_bytes"], "feasible": report["feasible"],
    "run_seconds": report["predicted_seconds"], "decode_seconds": decode["seconds"],
    "decode_spilled_bytes": decode["spilled_bytes"],
    "decode_streamed_bytes": decode["streamed_bytes"], "decode_peak_bytes": decode["peak_bytes"],
    "knobs": decode["knobs"], "plan_s": wall, "plan_cpu_s": cpu,
}))
"""


def planned(package: Path, cache: str, graph: str, inputs: Row, vram: str) -> Row:
    """Plan once in a process of its own, by the package of a checkout."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([graph, inputs, vram])],
        capture_output=True, text=True, check=True, cwd=package,
        env={**os.environ, "XDG_CACHE_HOME": cache, "PYTHONPATH": str(package)},
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def spills(
    packages: dict[str, Path], cache: str, graph: str, inputs: Row, above: Sequence[int]
) -> list[Row]:
    """A row a budget and side: every side's minimum, and those above that all can hold."""
    least = {
        side: planned(package, cache, graph, inputs, "1MiB")["minimum_bytes"]
        for side, package in packages.items()
    }
    budgets = sorted({*least.values(), *(b for b in above if b > max(least.values()))})
    rows = []
    for budget in budgets:
        for side, package in packages.items():
            if budget < least[side]:
                continue
            made = planned(package, cache, graph, inputs, f"{budget}B")
            row = {"side": side, **inputs, "budget_bytes": budget, **made}
            del row["plan_s"], row["plan_cpu_s"]
            print(json.dumps(row), flush=True)
            rows.append(row)
    return rows


def first_plans(packages: dict[str, Path], repeats: int, graph: str, inputs: Row) -> list[Row]:
    """What a first plan takes at the least budget and at much, by wall clock and processor."""
    rows = []
    for vram in ("1MiB", "8GiB"):
        times: dict[str, list[Row]] = {side: [] for side in packages}
        for _ in range(repeats):
            for side, package in packages.items():
                with tempfile.TemporaryDirectory() as cache:
                    times[side].append(planned(package, cache, graph, inputs, vram))
        for side, made in times.items():
            seconds = {
                key: spread([each[key] for each in made]) for key in ("plan_s", "plan_cpu_s")
            }
            rows.append({"side": side, **inputs, "vram": vram, **seconds})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Plan, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--against", type=Path, help="a checkout of another commit")
    parser.add_argument("--repeats", type=int, default=3, help="of first plans; 0: none")
    parser.add_argument("--shrink", action="store_true", help="the tiny graph, once")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    packages = {"now": ROOT}
    if asked.against is not None:
        packages = {"before": asked.against.resolve(), **packages}
    graph, sizes = ("t2v-tiny", ("64*64",)) if asked.shrink else ("t2v-14b", SIZES)
    rows, first = [], []
    with tempfile.TemporaryDirectory() as cache:
        for size in sizes:
            above = ABOVE[-1:] if asked.shrink else ABOVE
            rows += spills(packages, cache, graph, {"size": size}, above)
    for size in sizes if asked.repeats else ():
        first += first_plans(packages, asked.repeats, graph, {"size": size})
    report = {
        "benchmark": "decode_spills", "machine": machine_line("cpu"), "graph": graph,
        "planned_for": "rtx4090", "rows": rows, "first_plans": first,
    }  # fmt: skip
    print(json.dumps(report))
    keep(report, asked.out)


if __name__ == "__main__":
    main()
