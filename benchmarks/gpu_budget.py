"""What does a budget cost on a card? 1.3B and 14B, from everything resident to the minimum.

    python -m benchmarks.gpu_budget [--cases 1.3b-480p,14b-480p,14b-720p] [--minutes 9] [--shrink]

Random weights are made on the spot in --scratch. Each row is a process of its own with one pass a
step, so that nothing hides a block's upload but the block before it. Rows that would end after
--minutes are left out and named. The JSON file is written after every row.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.lib.cases import Case, tiny
from benchmarks.lib.report import error, keep, machine_line, probe, run_child
from wanflow.errors import WanflowError
from wanflow.session import plan

CASES = (
    Case("1.3b-480p", "wan2.1-t2v-1.3b", "832*480", 81, 4, 1.0),
    Case("14b-480p", "wan2.1-t2v-14b", "832*480", 81, 3, 1.0),
    Case("14b-720p", "wan2.1-t2v-14b", "1280*720", 81, 2, 1.0),
)
SHARES: Mapping[str, float | None] = {"resident": 1.0, "25 %": 0.25, "minimum": None, "50 %": 0.5}
SAME = (
    "budget_bytes", "predicted_peak_bytes", "peak_bytes", "peak_source", "plan_id", "sha256",
    "finite", "driver_peak_bytes", "driver_source", "rss_growth_bytes", "stage_seconds",
    "step_seconds", "stall_seconds", "process_seconds", "notes",
)  # fmt: skip
Row = dict[str, Any]


def budgets(case: Case, graph: Path, device: str) -> Iterator[tuple[str, int]]:
    """From the resident peak down: its weights' share, and the least that any plan needs."""
    report: Any = plan(case.request(graph, device, "auto")).report
    stage = next(s for s in report["stages"] if s["stage"] == "denoise")
    for name, share in SHARES.items():
        kept = report["resident_bytes"] - int(stage["weights_bytes"] * (1 - (share or 0)))
        yield name, report["minimum_bytes"] if share is None else max(kept, report["minimum_bytes"])


def told(case: Case, name: str, found: Row) -> Row:
    """A run's figures, predictions beside them."""
    if "error" in found:
        return {"case": case.name, "budget": name, **found}
    planned = found["planned"]
    seen = max(found["driver_peak_bytes"], found["peak_bytes"])
    return {
        "case": case.name, "budget": name, **{key: found[key] for key in SAME},
        "allocated_peak_bytes": found.get("allocated_peak_bytes", found["peak_bytes"]),
        "allocator_reserved_bytes": found.get("allocator_reserved_bytes", 0),
        "beside_bytes": found["beside_bytes"],
        "knobs": planned["knobs"], "resident_weights_bytes": planned["resident_weights_bytes"],
        "weights_bytes": planned["weights_bytes"], "predicted_stage_seconds": planned["seconds"],
        "predicted_stall_seconds": planned["waiting_seconds"],
        "peak_error": error(found["predicted_peak_bytes"], found["peak_bytes"]),
        "time_error": error(planned["seconds"], found["stage_seconds"]),
        "over_budget_bytes": max(seen - found["budget_bytes"], 0),
    }  # fmt: skip


def line(row: Row) -> str:
    """Say a row."""
    where = f"{row['case']} {row['budget']}"
    if "error" in row:
        return f"{where}: {row['error']}"
    keys = (
        "budget_bytes", "predicted_peak_bytes", "peak_bytes", "beside_bytes", "driver_peak_bytes",
        "stall_seconds",
    )  # fmt: skip
    seconds = f"{row['stage_seconds']:.2f} s (predicted {row['predicted_stage_seconds']:.2f})"
    figures = ", ".join(f"{key} {row[key]:.6g}" for key in keys)
    return f"{where}: {seconds}, {figures}, {row['sha256'][:12]}"


def verdict(rows: list[Row]) -> Row:
    """What the issue asks of every case: equality, the quarter's time, budgets kept."""
    found = {}
    for case in dict.fromkeys(row["case"] for row in rows):
        done = {r["budget"]: r for r in rows if r["case"] == case and "error" not in r}
        times = {name: row["stage_seconds"] for name, row in done.items()}
        both = "resident" in times and "25 %" in times
        found[case] = {
            "bit_identical": len({row["sha256"] for row in done.values()}) == 1,
            "quarter_over_resident": times["25 %"] / times["resident"] if both else None,
            "over_budget": [n for n, row in done.items() if row["over_budget_bytes"]],
        }
    return found


def main(given: argparse.Namespace) -> None:
    """Measure until the time is up."""
    ends = time.monotonic() + 60 * given.minutes
    scratch = Path(tempfile.mkdtemp(prefix="wf-gpu-", dir=given.scratch))
    result: Row = {"benchmark": "gpu_budget", "machine": machine_line(given.device)}
    result |= {"shrink": given.shrink, "rows": [], "left_out": []}
    wanted = given.cases.split(",")
    try:
        if given.probe:
            probe(given.device)
        for case in (c for c in CASES if c.name in wanted):
            _measure(tiny(case) if given.shrink else case, given, scratch, ends, result)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(json.dumps(result))


def _measure(
    case: Case, given: argparse.Namespace, scratch: Path, ends: float, told_of: Row
) -> None:
    began, longest = time.monotonic(), 0.0
    graph, _ = case.files(scratch)
    print(f"{case.name}: weights made in {time.monotonic() - began:.0f} s", flush=True)
    try:
        wanted = list(budgets(case, graph, given.device))
    except WanflowError as problem:
        told_of["left_out"].append(f"{case.name}: {problem.message}")
        return
    for name, nbytes in wanted[:2] if given.shrink else wanted:
        if time.monotonic() + 1.2 * longest > ends:
            told_of["left_out"].append(f"{case.name} {name}: the time was up")
            continue
        began = time.monotonic()
        request = case.request(graph, given.device, f"{nbytes}B")
        row = told(case, name, run_child(request, scratch / "run"))
        longest = max(longest, time.monotonic() - began)
        print(line(row), flush=True)
        told_of["rows"].append(row)
        told_of["verdict"] = verdict(told_of["rows"])
        keep(told_of, given.out)


if __name__ == "__main__":
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cases", default=",".join(case.name for case in CASES))
    parser.add_argument("--device", default="cuda:0" if cuda else "cpu")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--scratch", type=Path, help="a folder with 32 GB of room, /dev/shm say")
    parser.add_argument("--probe", action="store_true", help="measure the machine first")
    parser.add_argument("--out", type=Path, help="the JSON file [benchmarks/results/...]")
    parser.add_argument("--shrink", action="store_true", help="a tiny model, two budgets a case")
    main(parser.parse_args())
