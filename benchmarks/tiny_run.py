"""What does a budget cost? The tiny graph at four budgets against diffusers' own pipeline.

    python -m benchmarks.tiny_run [ROUNDS]

Each side is a process of its own (`lib/tiny_sides.py`); both write an mp4. A round to warm up, then
ROUNDS (5) in which all take turns. Three budgets have `--exact`, the fourth is the smallest without
it. Prints one JSON object; benchmarks/README.md says what the times hold.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any, Self

import attrs
import torch

from benchmarks.lib.environment import ROOT, child_environment
from benchmarks.lib.tiny_sides import Row
from wanflow.session.preparing.recipe import versions


@attrs.define
class Side:
    """A process that answers."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, name: str) -> Self:
        """Start one of `lib/tiny_sides.py`."""
        words = [sys.executable, "-m", "benchmarks.lib.tiny_sides", name]
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, cwd=ROOT, env=child_environment(),
        )  # fmt: skip
        return cls(process)

    def ask(self, **what: object) -> Any:
        """Tell it what to do and give its answer."""
        pipes = self.process.stdin, self.process.stdout
        if pipes[0] is None or pipes[1] is None:
            raise TypeError("the process has no pipes")
        pipes[0].write(json.dumps(what) + "\n")
        pipes[0].flush()
        for line in pipes[1]:
            word, _, text = line.partition(" ")
            if word == "answer":
                return json.loads(text)
        raise SystemExit(f"{self.process.args!r}: exit {self.process.wait()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.kill()
        self.process.communicate()


def sums(rows: Sequence[Row]) -> dict[str, object]:
    """Median and range of every time, the most of every size."""
    told: dict[str, object] = {key: max(row[key] for row in rows) for key in rows[0]}
    for key in (key for key in told if "seconds" in key):
        column = [row[key] for row in rows]
        told[key] = {"median": median(column), "fastest": min(column), "slowest": max(column)}
    return told


def jobs(ours: Side) -> dict[str, dict[str, object]]:
    """The same job at four budgets."""
    exact = ours.ask(plan=True, vram="auto", exact=True)
    lean = ours.ask(plan=True, vram="auto", exact=False)
    most, least = exact["resident_bytes"], exact["minimum_bytes"]
    budgets = {"resident": most, "halfway": (most + least) // 2, "minimum": least}
    asked: dict[str, dict[str, object]] = {
        name: {"plan": False, "vram": f"{nbytes}B", "exact": True}
        for name, nbytes in budgets.items()
    }
    return asked | {"lean": {"plan": False, "vram": f"{lean['minimum_bytes']}B", "exact": False}}


def main(rounds: int) -> None:
    """Measure and print."""
    with Side.start("ours") as ours, Side.start("theirs") as theirs:
        asked = jobs(ours)
        found: dict[str, list[Row]] = {name: [] for name in (*asked, "diffusers")}
        for _ in range(1 + rounds):
            for name, each in asked.items():
                found[name].append(ours.ask(**each))
            found["diffusers"].append(theirs.ask(measure=False))
        peak = theirs.ask(measure=True)
    measured = {name: rows[1:] for name, rows in found.items()}
    shares = {
        name: median(
            mine["seconds"] / other["seconds"]
            for mine, other in zip(measured[name], measured["diffusers"], strict=True)
        )
        for name in asked
    }
    told = {"benchmark": "tiny_run", "threads": torch.get_num_threads(), "versions": versions()}
    told |= {"rounds": rounds, "shares": shares, **{n: sums(r) for n, r in measured.items()}}
    told["diffusers"] = {**sums(measured["diffusers"]), **peak}
    print(json.dumps(told))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
