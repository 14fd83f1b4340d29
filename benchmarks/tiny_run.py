"""What does a budget cost? The tiny graph at four budgets against diffusers' own pipeline.

    python benchmarks/tiny_run.py [ROUNDS]

One process; a round to warm up, then ROUNDS (5) in which all take turns. Three budgets have
`--exact`, the fourth is the smallest without it. Prints one JSON object; benchmarks/README.md says
what the times hold.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import WanPipeline

import wanflow
from wanflow.scheduler.run.meter import AllocationMeter
from wanflow.session import Request, plan, run
from wanflow.session.preparing.prepared import versions

TINY = Path(wanflow.__file__).parent / "bundled" / "wan-tiny"
PROMPT, SEED, STEPS, GUIDANCE = "a red circle moves right", 11, 8, 5.0
Row = dict[str, float]


def request(vram: str = "auto", *, exact: bool = True) -> Request:
    """Make the job as wanflow takes it; size and frames are the graph's."""
    inputs: dict[str, str | int | float] = {"prompt": PROMPT, "seed": SEED}
    inputs |= {"steps": STEPS, "guidance": GUIDANCE}
    return Request("t2v-tiny", inputs, device="cpu", vram=vram, exact=exact, prompt_cache=False)


def ours(asked: Request, folder: Path) -> Row:
    """Plan and run."""
    began = time.perf_counter()
    done: Any = run(asked, out=folder, force=True)
    row = {"seconds_with_planning": time.perf_counter() - began}
    keys = ("seconds", "budget_bytes", "predicted_peak_bytes", "peak_bytes")
    return row | {key: done[key] for key in keys}


def theirs() -> Row:
    """Load the pipeline and call it; then once more under the meter, which slows it down."""
    job = {"prompt": PROMPT, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
    job |= {"width": 64, "height": 64, "num_frames": 17, "output_type": "pt"}
    began = time.perf_counter()
    pipeline = WanPipeline.from_pretrained(TINY)
    pipeline.set_progress_bar_config(disable=True)
    loaded = time.perf_counter()
    pipeline(**job, generator=torch.Generator("cpu").manual_seed(SEED))
    ended = time.perf_counter()
    parts = (pipeline.text_encoder, pipeline.transformer, pipeline.vae)
    weights = sum(tensor.nbytes for part in parts for tensor in part.parameters())
    with AllocationMeter() as meter:
        pipeline(**job, generator=torch.Generator("cpu").manual_seed(SEED))
    peak = weights + meter.peak_bytes
    return {"seconds": ended - loaded, "seconds_with_loading": ended - began, "peak_bytes": peak}


def sums(rows: list[Row]) -> dict[str, object]:
    """Median and range of every time, the most of every size."""
    told: dict[str, object] = {key: max(row[key] for row in rows) for key in rows[0]}
    for key in (key for key in told if key.startswith("seconds")):
        column = [row[key] for row in rows]
        told[key] = {"median": median(column), "fastest": min(column), "slowest": max(column)}
    return told


def jobs() -> dict[str, Request]:
    """The same job at four budgets."""
    report: Any = plan(request()).report
    lean: Any = plan(request(exact=False)).report
    most, least = report["resident_bytes"], report["minimum_bytes"]
    budgets = {"resident": most, "halfway": (most + least) // 2, "minimum": least}
    asked = {name: request(f"{nbytes}B") for name, nbytes in budgets.items()}
    return asked | {"lean": request(f"{lean['minimum_bytes']}B", exact=False)}


def main(rounds: int) -> None:
    """Measure and print."""
    asked = jobs()
    found: dict[str, list[Row]] = {name: [] for name in (*asked, "diffusers")}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 + rounds):
            for name, each in asked.items():
                found[name].append(ours(each, Path(folder) / "run"))
            found["diffusers"].append(theirs())
    told = {"benchmark": "tiny_run", "threads": torch.get_num_threads(), "versions": versions()}
    print(json.dumps({**told, "rounds": rounds, **{n: sums(r[1:]) for n, r in found.items()}}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
