"""Is a 1.3B forward faster than diffusers', and compiled than diffusers compiled? On this CPU.

    python -m benchmarks.compiled_forward [--rounds 5] [--size 480*272] [--frames 17]
                                          [--layers 2] [--shrink]

Random bf16 weights, all 30 layers. Each side is a process of its own, as a user has it: wanflow
with the heap of a run, at the rows that the planner takes there; diffusers as it comes, and with
`transformer.compile_repeated_blocks(fullgraph=True)`, as its page on speed has it. A pair takes
turns, first one side then the other; a share is that of a round. What the first forward took over
the median is the compile time, with nothing on disk. Prints a line a side, then one JSON object,
which goes into benchmarks/results/ too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.dit_forward import difference
from benchmarks.lib.environment import ROOT, child_environment
from benchmarks.lib.report import keep, machine_line, spread

Row = dict[str, Any]
PAIRS = (("diffusers", "wanflow"), ("diffusers-compiled", "wanflow-compiled"))
_LARGE_PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}  # as the command `wanflow` asks PyTorch for them


class Side:
    """A process that does a forward when it is told."""

    def __init__(self, name: str, given: argparse.Namespace, scratch: Path) -> None:
        self.name, self.made = name, scratch / f"{name}.pt"
        ours = _LARGE_PAGES if name.startswith("wanflow") else {}
        caches = {"TORCHINDUCTOR_CACHE_DIR": str(scratch / name)}
        words = (
            name, given.size, str(given.frames), str(given.layers or 0),
            str(int(given.shrink)), str(self.made),
        )  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.lib.forward_side", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=child_environment(**ours, **caches),
        )  # fmt: skip
        self.first = self._said()["first"]
        self.turns: list[Row] = []

    def turn(self) -> None:
        """Let it do one."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.turns.append(self._said())

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.communicate()  # closes both ends

    def _said(self) -> Row:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with {self._process.wait()}")
        return dict(json.loads(line))


def compared(names: tuple[str, str], given: argparse.Namespace, scratch: Path) -> list[Side]:
    """Let a pair take turns, the one that begins changing."""
    sides = [Side(name, given, scratch) for name in names]
    for number in range(given.rounds):
        for side in sides if number % 2 else sides[::-1]:
            side.turn()
    for side in sides:
        side.close()
    return sides


def row(side: Side, peer: Side, expected: torch.Tensor) -> Row:
    """What came of a side, beside the other of its pair."""
    seconds, theirs = ([turn["seconds"] for turn in each.turns] for each in (side, peer))
    cpu, their_cpu = ([turn["cpu"] for turn in each.turns] for each in (side, peer))
    return {
        "case": side.name,
        "seconds": spread(seconds),
        "share": spread([a / b for a, b in zip(seconds, theirs, strict=True)]),
        "cpu_share": spread([a / b for a, b in zip(cpu, their_cpu, strict=True)]),
        "first_seconds": side.first,
        "compile_seconds": side.first - median(seconds) if "compiled" in side.name else 0.0,
        "difference": difference(torch.load(side.made), expected),
    }


def main(given: argparse.Namespace) -> None:
    """Measure, print and keep."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for names in PAIRS:
            peer, ours = compared(names, given, Path(folder))
            expected = torch.load(Path(folder) / f"{PAIRS[0][0]}.pt")
            rows += [row(side, peer, expected) for side in (peer, ours)]
            for one in rows[-2:]:
                took, share = one["seconds"]["median"], one["share"]
                text = f"{share['median']:.3f} ({share['fastest']:.3f} to {share['slowest']:.3f})"
                more = f"{one['compile_seconds']:.1f} s to compile"
                print(f"{one['case']:>20}  {took:.2f} s  {text}  {more}", flush=True)
    report = {
        "benchmark": "compiled_forward", "machine": machine_line("cpu"), "size": given.size,
        "frames": given.frames, "layers": given.layers, "rounds": given.rounds, "rows": rows,
    }  # fmt: skip
    keep(report, given.out)
    print(json.dumps(report))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="480*272")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--layers", type=int, help="so many blocks, which are alike [all]")
    parser.add_argument("--out", type=Path, help="the JSON file [benchmarks/results/...]")
    parser.add_argument("--shrink", action="store_true", help="two narrow blocks")
    main(parser.parse_args())
