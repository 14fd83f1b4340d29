"""What do the lean ways cost on a card, beside diffusers' own? Peaks, times, bits, kernels' room.

    python -m benchmarks.gpu_lean [--cases 1.3b-480p,14b-480p,..] [--minutes 9] [--shrink]

One stage at a time, random weights, every value of its knobs: all resident, and in the least
memory that it can do with. Beside it diffusers as it comes, with model offload, with group offload
(leaves, on a stream), with a tiled VAE. In a round all ways take turns; a case's rounds end with
its share of --minutes, and what has no time is named. Then each kernel that ran runs again by
itself, beside the figure of the table of workspaces. The JSON file is written after every case.

Of models whose layers are alike some cases have only a few (`blocks` of `depth`): activations are
those of the whole model, resident weights are `block_bytes` a layer more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import attrs
import torch

from benchmarks.lib.alone import Alone
from benchmarks.lib.driver import Driver
from benchmarks.lib.kernels import Seen, measured
from benchmarks.lib.lean_report import BOUNDS, LEVEL, line, verdict, within
from benchmarks.lib.peers import Peer
from benchmarks.lib.random_weights import RandomWeights
from benchmarks.lib.report import keep, machine_line, probe
from benchmarks.lib.stage_case import ENCODE, Case
from benchmarks.lib.ways import Figures, Way, make_room, measure, ours, peers
from wanflow.errors import WanflowError

CASES = (
    Case("1.3b-480p", "t2v-1.3b", "denoise", "832*480", steps=3),
    Case("14b-480p", "t2v-14b", "denoise", "832*480", steps=3, blocks=2),
    Case("1.3b-720p", "t2v-1.3b", "denoise", "1280*720", steps=3, blocks=4),
    Case("14b-720p", "t2v-14b", "denoise", "1280*720", steps=3, blocks=2),
    Case("umt5-xxl", "t2v-14b", "encode", "832*480", blocks=4),
    Case("vae-480p", "t2v-1.3b", "decode", "832*480", blocks=1),
    Case("vae-encode-480p", "t2v-1.3b", ENCODE, "832*480", blocks=1),
    Case("vae-720p", "t2v-14b", "decode", "1280*720", precision="fp32", blocks=1),
)
BACKENDS = ("native", "_native_cudnn", "_native_flash")
_KINDS_OF_FRAMES = 9  # of a VAE: after the third latent frame all are alike
_TURNS_SHARE = 0.8  # of a case's time; the rest is for its kernels
_LATE = "the time was up"
NOTES = (
    "seconds: from weights in host memory (wanflow's: out of a pool of noise) to the result there",
    "step_seconds: the median of a run's later steps, the sampler's included",
    "expandable segments are on for all ways where wanflow turns them on",
)
Row = dict[str, Any]


def shrunken(case: Case) -> Case:
    """The same question to a tiny model."""
    return attrs.evolve(
        case, graph="t2v-tiny", size="48*32", frames=5, steps=min(case.steps, 2), blocks=1
    )


@attrs.define
class Bench:
    """One run of this script: what it may use, and what it has found so far."""

    given: argparse.Namespace
    scratch: Path
    driver: Driver
    told: Row
    weights: RandomWeights = attrs.field(factory=RandomWeights)
    _alone: dict[tuple[Case, str], Alone] = attrs.field(factory=dict, init=False)

    def case(self, case: Case, ends: float) -> None:
        """Measure a case until *ends*; whatever fails is told in its place."""
        alone = self._of(case, BACKENDS[0])
        size = {
            "size": case.size, "frames": case.frames, "steps": case.steps,
            "precision": case.precision, "blocks": case.blocks if alone.depth else None,
            "depth": alone.depth, "block_bytes": alone.block_bytes,
        }  # fmt: skip
        turns = _TURNS_SHARE * (ends - time.monotonic())
        self._turns(_ways(alone, size), time.monotonic() + turns)
        for backend in BACKENDS if case.stage == "denoise" else BACKENDS[:1]:
            with self._told(f"{case.name}, kernels of {backend}"):
                self._kernels(case, backend, ends)

    def _of(self, case: Case, backend: str) -> Alone:
        key = (case, backend)
        if key not in self._alone:
            make_room()  # a budget is a share of what is free
            args = (case, self.weights, self.scratch, self.given.device, backend)
            self._alone[key] = Alone.of(*args)
        return self._alone[key]

    def _turns(self, ways: Iterator[Way], ends: float) -> None:
        """Let all ways take turns; the first one runs once before the clock counts."""
        all_of: list[Figures] = []
        expected: torch.Tensor | None = None
        for number in range(self.given.rounds):
            for figures in list(all_of) if number else _new(ways, all_of):
                name = figures.way.name
                if time.monotonic() > ends:
                    left = f"{name} of round {number + 1} and all after it: {_LATE}"
                    self.told["left_out"].append(left)
                    break
                if expected is None:
                    expected = measure(Figures(figures.way), *self._tools, None).made
                self._turn(figures, name, expected)
            else:
                continue
            break
        done = [each for each in all_of if each.seconds]
        for each in done:
            row = each.row(done[0])
            row["within_bound"] = within(row)
            self.told["rows"].append(row)
            print(line(row), flush=True)

    def _turn(self, figures: Figures, name: str, expected: torch.Tensor) -> None:
        with self._told(name):
            measure(figures, *self._tools, expected)

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Tell what fails instead of ending everything: a peer may raise anything."""
        try:
            yield
        except Exception as problem:  # noqa: BLE001 - it is in the report, by its name
            self.told["failed"].append(f"{name}: {type(problem).__name__}: {problem}"[:500])

    @property
    def _tools(self) -> tuple[Driver, str]:
        return self.driver, self.given.device

    def _kernels(self, case: Case, backend: str, ends: float) -> None:
        """Note the kernels of a short run at each setting, then run each by itself."""
        frames = case.frames if case.stage == "denoise" else min(case.frames, _KINDS_OF_FRAMES)
        few = attrs.evolve(case, frames=frames, steps=1, blocks=1)
        try:
            alone = self._of(few, backend)
        except WanflowError as problem:
            self.told["left_out"].append(f"{case.name}, kernels: {problem.message}")
            return
        with Seen() as seen:
            for setting in alone.settings():
                alone.run(alone.plan(alone.footprint(setting), None), lambda *_: None)
        wanted = seen.kernels.values() if backend == BACKENDS[0] else seen.attention()
        late = 0
        for kernel, count in wanted:
            if time.monotonic() > ends:
                late += 1
                continue
            row = measured(kernel, alone.place.device, backend)
            self.told["kernels"].append({"case": case.name, **row, "count": count})
        if late:
            self.told["left_out"].append(f"{case.name}, {late} kernels of {backend}: {_LATE}")


def _ways(alone: Alone, size: Row) -> Iterator[Way]:
    for way in chain(peers(alone, Peer.of(alone)), ours(alone)):
        yield attrs.evolve(way, facts={**way.facts, **size})


def _new(ways: Iterator[Way], kept: list[Figures]) -> Iterator[Figures]:
    for way in ways:
        kept.append(Figures(way))
        yield kept[-1]


def main(given: argparse.Namespace) -> None:
    """Measure until the time is up."""
    ends = time.monotonic() + 60 * given.minutes
    scratch = Path(tempfile.mkdtemp(prefix="wf-lean-"))
    names = given.cases.split(",")
    wanted = [case for case in CASES if case.name in names]
    told: Row = {
        "benchmark": "gpu_lean", "shrink": given.shrink, "bounds": {**BOUNDS, "a level": LEVEL},
        "notes": NOTES, "rows": [], "kernels": [], "failed": [], "left_out": [],
    }  # fmt: skip
    try:
        with Driver(given.device) as driver:
            told["machine"] = machine_line(given.device)
            if given.probe:
                probe(given.device)
            bench = Bench(given, scratch, driver, told)
            for number, case in enumerate(wanted):
                share = (ends - time.monotonic()) / (len(wanted) - number)
                bench.case(shrunken(case) if given.shrink else case, time.monotonic() + share)
                told["verdict"] = verdict(told["rows"])
                keep(told, given.out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(json.dumps(told))


if __name__ == "__main__":
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cases", default=",".join(case.name for case in CASES))
    parser.add_argument("--device", default="cuda:0" if cuda else "cpu")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--probe", action="store_true", help="measure the machine first")
    parser.add_argument("--out", type=Path, help="the JSON file [benchmarks/results/...]")
    parser.add_argument("--shrink", action="store_true", help="a tiny model")
    main(parser.parse_args())
