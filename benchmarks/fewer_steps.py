"""Are few steps and skipped steps predicted as well as others? The tiny model on this CPU.

    python benchmarks/fewer_steps.py [ROUNDS]

Each job once to learn from, then ROUNDS (5) in which all take turns. The coefficients are made up:
which steps they skip is of no matter to how long these take. Prints one JSON object.
"""

import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch

from wanflow.session import Request, run
from wanflow.session.preparing.recipe import versions

PROMPT, STEPS = "a red circle moves right", 25
FOUR = ("denoise.sampler=euler", "denoise.timesteps=1000,750,500,250")
CACHES = {
    "magcache": ("cache_ratios=" + ",".join(["0.99", "0.98"] * (STEPS - 1)),),
    "teacache": ("cache_coefficients=1,0",),
}


def jobs() -> dict[str, Request]:
    """Four timesteps, all steps, and these with each cache."""
    few = {"shift": 5.0, "guidance": 1.0}
    asked = {"four timesteps": request(FOUR, few), "no cache": request((), {"steps": STEPS})}
    for kind, params in CACHES.items():
        said = (f"cache={kind}", "cache_threshold=0.2", *params)
        asked[kind] = request(tuple(f"denoise.{param}" for param in said), {"steps": STEPS})
    return asked


def request(settings: tuple[str, ...], inputs: dict[str, Any]) -> Request:
    """Ask for the graph's own size and frames."""
    inputs = {"prompt": PROMPT, **inputs}
    return Request("t2v-tiny", inputs, device="cpu", settings=settings)


def main(rounds: int) -> None:
    """Measure and print."""
    asked = jobs()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in asked}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 + rounds):
            for name, each in asked.items():
                found[name].append(run(each, out=Path(folder) / "run", force=True))
    told = {"benchmark": "fewer_steps", "threads": torch.get_num_threads(), "versions": versions()}
    print(json.dumps({**told, "rounds": rounds, **{n: sums(r[1:]) for n, r in found.items()}}))


def sums(reports: list[dict[str, Any]]) -> dict[str, object]:
    """Medians, and how far the predicted one is from the measured one."""
    seconds = median(report["seconds"] for report in reports)
    predicted = median(report["predicted_seconds"] for report in reports)
    skipped = reports[0]["skipped_steps"].get("denoise", {})
    return {
        "seconds": seconds,
        "predicted_seconds": predicted,
        "error_percent": 100 * (predicted / seconds - 1),
        "skipped_steps": {name: len(steps) for name, steps in skipped.items()},
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
