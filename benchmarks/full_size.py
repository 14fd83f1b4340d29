"""A video of full size on a CPU, inside a budget that its weights are many times of.

    python -m benchmarks.full_size t2v-1.3b --weights FOLDER [--limit 3GiB] [--out RUN]
    python -m benchmarks.full_size t2v-14b --weights FOLDER --weights dit=FOLDER
    python -m benchmarks.full_size t2v-1.3b --weights FOLDER --peer

`scripts/make_checkpoint.py` makes the folders, of random weights. Takes hours; Ctrl-C stops it, and
the same command goes on. What the process had in memory is looked at every second from outside.
On a processor without bf16 instructions --precision dit=fp32 is five times as fast.
With --limit all of it runs in a cgroup of so much, its page cache counted too: weights are read
from the disk again and again. --peer is the plain script with diffusers, everything resident.
Prints one JSON object, which goes into benchmarks/results/ too.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.lib.report import error, keep, machine_line
from benchmarks.lib.sampled import Sample, run_sampled, samples_of
from wanflow.trace.summary import summarise
from wanflow.units import parse_budget

_POINTS = 240  # of the curve that is kept
_OVERHEAD_BYTES = 1 << 30  # libraries, the plan, read buffers: beside the budget


@attrs.frozen
class Case:
    """What is run: a shipped graph, its inputs, its budget."""

    graph: str
    size: str
    frames: int
    budget: str
    steps: int = 2
    guidance: float = 5.0

    def command(self, weights: Sequence[str], more: Sequence[str], out: Path) -> list[str]:
        """The command line, from the start."""
        inputs = {"size": self.size, "frames": self.frames, "steps": self.steps}
        inputs |= {"guidance": self.guidance}
        given = [part for name, value in inputs.items() for part in ("-i", f"{name}={value}")]
        given += [part for each in weights for part in ("--weights", each)]
        prompt = "a red circle moves right on a blue background"
        return [
            *_WANFLOW, "run", self.graph, "--prompt", prompt, *given, "--vram", self.budget,
            "--device", "cpu", "--out", str(out), "--force", "--no-prompt-cache", *more,
        ]  # fmt: skip

    def peer(self, weights: Sequence[str], out: Path) -> list[str]:
        """The plain script's command line."""
        folders = dict(each.rpartition("=")[::2] for each in weights)
        parts = [folders.get(name, folders.get("", ".")) for name in ("text", "dit", "vae")]
        numbers = [*self.size.split("*"), self.frames, self.steps, self.guidance]
        script = [sys.executable, "-m", "benchmarks.lib.plain_full"]
        return [*script, str(out), *map(str, numbers), *parts]


_WANFLOW = (sys.executable, "-m", "wanflow")
CASES = {
    case.graph: case
    for case in (
        Case("t2v-1.3b", "832*480", 81, "2GiB"),
        Case("t2v-14b", "480*272", 17, "3GiB"),
        Case("t2v-tiny", "64*64", 17, "6MiB"),
    )
}


def main(given: argparse.Namespace) -> None:
    """Run, or go on; tell what came of it."""
    case, out = CASES["t2v-tiny" if given.shrink else given.case], given.out
    samples = out.with_name(f"{out.name}.samples.jsonl")
    limit = None if given.limit is None else parse_budget(given.limit, "--limit").nbytes
    if given.peer:
        command = case.peer(given.weights, out.with_suffix(".mp4"))
    elif (out / "request.json").is_file():
        command = [*_WANFLOW, "resume", str(out)]
    else:
        samples.unlink(missing_ok=True)
        more = [part for each in given.precision for part in ("--precision", each)]
        command = case.command(given.weights, more, out)
    code = run_sampled(command, samples, limit_bytes=limit)
    report: dict[str, Any] = {
        "benchmark": "full_size", "machine": machine_line("cpu"), "case": case.graph,
        **attrs.asdict(case), "precision": given.precision, "limit_bytes": limit,
        "exit_code": code,
        "process": process_of(samples_of(samples)),
    }  # fmt: skip
    if not given.peer:
        if code:
            raise SystemExit(code)
        report |= run_of(out)
        over = report["process"]["rss_peak_bytes"] - report["budget_bytes"]
        report |= {"rss_over_budget_bytes": over, "within_overhead": over <= _OVERHEAD_BYTES}
    ways = ["peer"] if given.peer else []
    keep(report, given.keep, name="-".join([given.case, *ways, str(report["machine"]["device"])]))
    print(json.dumps({**report, "process": {**report["process"], "curve": "..."}}))


def process_of(samples: Sequence[Sample]) -> dict[str, Any]:
    """What the process had: at most, and over time; its processor's seconds, all starts of it."""
    starts = [s for s, n in itertools.pairwise(samples) if _is_end(s, n)]
    spent = sum(s.processor_seconds for s in [*starts, *samples[-1:]])
    first = samples[0].at if samples else 0.0
    curve = samples[:: max(len(samples) // _POINTS, 1)]
    return {
        "rss_peak_bytes": max((s.rss_bytes for s in samples), default=0),
        "anonymous_peak_bytes": max((s.anonymous_bytes for s in samples), default=0),
        "processor_seconds": spent, "starts": len(starts) + 1,
        "curve": [[round(s.at - first, 1), s.rss_bytes, s.anonymous_bytes] for s in curve],
    }  # fmt: skip


def _is_end(sample: Sample, after: Sample) -> bool:
    return after.processor_seconds < sample.processor_seconds


def run_of(folder: Path) -> dict[str, Any]:
    """What was planned and what was done, by stage; of all traces, where the run was stopped."""
    plan = json.loads((folder / "plan.json").read_text())
    told = json.loads((folder / "run.json").read_text())
    stages: dict[str, dict[str, Any]] = {
        s["stage"]: {
            "predicted_seconds": s["seconds"], "predicted_peak_bytes": s["peak_bytes"],
            "knobs": s["knobs"], "weights_bytes": s["weights_bytes"],
            "streamed_bytes": s["streamed_bytes"], "seconds": 0.0, "waited_seconds": 0.0,
            "peak_bytes": 0,
        }
        for s in plan["stages"]
    }  # fmt: skip
    for path in sorted(folder.glob("trace*.msgpack")):
        for stage in summarise(path).stages:
            if (row := stages.get(stage.stage)) is None:
                continue  # of the run, around its stages
            row["seconds"] += stage.seconds
            row["waited_seconds"] += stage.waited_seconds
            row["peak_bytes"] = max(row["peak_bytes"], stage.peak_bytes)
    seconds = sum(row["seconds"] for row in stages.values())
    return {
        "budget_bytes": plan["budget_bytes"], "minimum_bytes": plan["minimum_bytes"],
        "resident_bytes": plan["resident_bytes"],
        "predicted_peak_bytes": told["predicted_peak_bytes"], "peak_bytes": told["peak_bytes"],
        "peak_error": error(told["predicted_peak_bytes"], told["peak_bytes"]),
        "predicted_seconds": plan["predicted_seconds"], "seconds": seconds,
        "time_error": error(plan["predicted_seconds"], seconds), "stages": stages,
        "video_bytes": Path(told["video"]).stat().st_size, "resumed": told["resumed"],
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("case", choices=sorted(CASES), nargs="?", default="t2v-1.3b")
    parser.add_argument("--weights", action="append", default=[], metavar="[MODEL=]PATH")
    parser.add_argument("--precision", action="append", default=[], metavar="[MODEL=]TYPE")
    parser.add_argument("--limit", help="of all that the process takes, its page cache too")
    parser.add_argument("--out", type=Path, default=Path("runs/full-size"), help="the run folder")
    parser.add_argument("--keep", type=Path, help="the JSON file [benchmarks/results/...]")
    parser.add_argument("--shrink", action="store_true", help="the tiny model")
    parser.add_argument("--peer", action="store_true", help="the plain script with diffusers")
    main(parser.parse_args())
