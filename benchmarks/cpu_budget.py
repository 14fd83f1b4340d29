"""Does a quarter of the weights cost time or bits? Wan2.1 1.3B on the CPU against all resident.

    python benchmarks/cpu_budget.py [--pairs 5] [--steps 1] [--cold] [--probe] [--shrink]

Makes a full-size transformer of random bf16 weights in --scratch and keeps it there. The two take
turns, each run a process of its own, page cache warm. With --cold, one run of each more with the
checkpoint out of the page cache, and the disk's own rate. Prints a line a run, then one JSON
object, which goes into benchmarks/results/ too.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import attrs

from benchmarks.lib.cases import Case, tiny
from benchmarks.lib.report import error, keep, machine_line, probe, run_child, spread
from wanflow.session import plan

CASE = Case("1.3b-cpu", "wan2.1-t2v-1.3b", "480*272", 17, 1, 5.0)
SHARE = 0.25
PINS = ("denoise.cfg=serial",)  # else one step reads each block once, and nothing has to stay
Row = dict[str, Any]


def read_through(folder: Path, *, cold: bool) -> float:
    """Read the checkpoint once, in seconds; *cold*: after the kernel was asked to forget it."""
    began, buffer = time.perf_counter(), bytearray(8 << 20)
    for path in folder.glob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            if cold:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while file.readinto(buffer):
                pass
    return time.perf_counter() - began


def forget(folder: Path) -> None:
    """Let the page cache forget the checkpoint."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def line(name: str, row: Row) -> None:
    """Say a run."""
    if "error" in row:
        print(f"{name}: {row['error']}", flush=True)
        return
    took, peak = row["stage_seconds"], row["predicted_peak_bytes"]
    print(
        f"{name}: {took:.2f} s (predicted {row['planned']['seconds']:.2f}), stall "
        f"{row['stall_seconds']:.2f} s, budget {row['budget_bytes']}, predicted {peak}, tensors "
        f"{row['peak_bytes']}, rss +{row['rss_growth_bytes']}, {row['sha256'][:12]}",
        flush=True,
    )


def told(rows: list[Row]) -> Row:
    """All runs of one budget as one row."""
    first = rows[0]
    same = ("budget_bytes", "predicted_peak_bytes", "peak_bytes", "peak_source", "plan_id")
    predicted = first["planned"]["seconds"]
    seconds = spread([row["stage_seconds"] for row in rows])
    growth = max(row["rss_growth_bytes"] for row in rows)
    return {
        **{key: first[key] for key in same},
        "knobs": first["planned"]["knobs"],
        "streamed_bytes": first["planned"]["streamed_bytes"],
        "resident_weights_bytes": first["planned"]["resident_weights_bytes"],
        "predicted_stage_seconds": predicted,
        "stage_seconds": seconds,
        "stall_seconds": spread([row["stall_seconds"] for row in rows]),
        "rss_growth_bytes": growth,
        "rss_over_budget_bytes": growth - first["budget_bytes"],
        "peak_error": error(first["predicted_peak_bytes"], first["peak_bytes"]),
        "time_error": error(predicted, seconds["median"]),
    }


def cold(ask: Any, names: tuple[str, ...], weights: Path) -> Row:
    """Run each once with a cold page cache; the loads' rate against the disk's own."""
    seconds = read_through(weights, cold=True)
    size = sum(path.stat().st_size for path in weights.glob("*.safetensors"))
    rate = size / seconds
    found: Row = {"disk_bytes_per_second": rate}
    for name in names:
        forget(weights)
        row = ask(name)
        line(f"cold {name}", row)
        passes = row["loaded_bytes"] / row["planned"]["weights_bytes"]
        found[name] = {
            "stage_seconds": row["stage_seconds"],
            "stall_seconds": row["stall_seconds"],
            "file_passes": passes,
            "rate_over_disk": size * passes / row["loading_seconds"] / rate,
        }
    return found


def main(given: argparse.Namespace) -> None:
    """Measure, print and keep."""
    case = attrs.evolve(tiny(CASE) if given.shrink else CASE, steps=given.steps)
    case = case if given.precision is None else attrs.evolve(case, precision=given.precision)
    given.scratch.mkdir(parents=True, exist_ok=True)
    graph, weights = case.files(given.scratch)
    if given.probe:
        probe("cpu")
    pins = tuple(given.pin or PINS)
    stays = case.request(graph, "cpu", "auto", (*pins, "denoise.weights=resident"))
    report: Any = plan(stays).report
    least: Any = plan(case.request(graph, "cpu", "auto", pins)).report["minimum_bytes"]
    stage = next(s for s in report["stages"] if s["stage"] == "denoise")
    quarter = report["resident_bytes"] - int(stage["weights_bytes"] * (1 - SHARE))
    budgets = {"resident": report["resident_bytes"]}
    budgets["quarter"] = max(quarter, least)
    rows: dict[str, list[Row]] = {name: [] for name in budgets}
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:

        def ask(name: str) -> Row:
            request = case.request(graph, "cpu", f"{budgets[name]}B", pins)
            return run_child(request, Path(folder) / "run")

        read_through(weights, cold=False)
        for pair in range(given.pairs):
            for name in sorted(budgets, reverse=bool(pair % 2)):
                row = ask(name)
                line(name, row)
                if "error" in row:
                    raise SystemExit(1)
                rows[name].append(row)
        frozen = cold(ask, tuple(budgets), weights) if given.cold else None
    pairs = zip(rows["quarter"], rows["resident"], strict=True)
    ratios = [quarter["stage_seconds"] / resident["stage_seconds"] for quarter, resident in pairs]
    prints = {row["sha256"] for each in rows.values() for row in each}
    result = {
        "benchmark": "cpu_budget", "machine": machine_line("cpu"), "case": attrs.asdict(case),
        "pairs": given.pairs, "weights_bytes": stage["weights_bytes"],
        "rows": [{"case": case.name, "budget": name, **told(each)} for name, each in rows.items()],
        "quarter_over_resident": spread(ratios), "bit_identical": len(prints) == 1,
        "finite": all(row["finite"] for each in rows.values() for row in each), "cold": frozen,
    }  # fmt: skip
    print(f"quarter / resident: {median(ratios):.3f} of {given.pairs} pairs")
    keep(result, given.out)
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="of the kernels [fp32]")
    parser.add_argument("--pin", action="append", help=f"STAGE.KNOB=VALUE {list(PINS)}")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/wf-scratch"))  # noqa: S108
    parser.add_argument("--out", type=Path, help="the JSON file [benchmarks/results/...]")
    for flag in ("--cold", "--probe", "--shrink"):
        parser.add_argument(flag, action="store_true")
    main(parser.parse_args())
