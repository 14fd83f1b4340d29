"""Is a prompt encoded sooner from int8 weights than from bf16, from a cold disk? UMT5-XXL.

    python -m benchmarks.packed_encode [--pairs 3] [--kind int8] [--tiny]

Random bf16 weights (11.4 GB, made in --scratch and kept there), and the same written by
`wanflow models shrink`. A prompt of 64 tokens, a budget of 600 MB, each run a process of its own
with the page cache dropped before it; the two take turns. Prints a line a run, then one JSON
object, which goes into benchmarks/results/ too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors.torch import load_file

from benchmarks.lib.report import keep, machine_line, spread
from benchmarks.text_encode import FULL, TINY, Bench, Row, encode
from wanflow.session.weights.shrink import shrink

SIDES = ("bf16", "packed")


@attrs.frozen
class Quiet:
    """Hears how the packing goes on."""

    def start(self, words: str, nbytes: int) -> None:
        """Say what is done."""
        print(f"{words} ({nbytes} bytes)", file=sys.stderr)

    def begin(self, name: str) -> None:
        """Say nothing."""

    def advance(self, nbytes: int) -> None:
        """Say nothing."""


@attrs.frozen
class PackedBench(Bench):
    """The same case with packed weights."""

    packed: Path = attrs.field(kw_only=True)

    def asked(self, side: str, folder: Path, *, exact: bool = False) -> Row:
        """What the process reads: the packed folder instead."""
        row = super().asked(side, folder, exact=exact)
        row["request"]["weights"] = [f"text={self.packed}"]
        return row


def made(bench: Bench, kind: str) -> tuple[Path, float]:
    """The packed folder, and the seconds that it took to write it, 0 where it was there."""
    folder = bench.scratch.resolve() / f"{bench.case.name}-{kind}"
    if (folder / "done").exists():
        return folder, 0.0
    began = time.perf_counter()
    shrink(bench.weights.parent, kind, folder, Quiet())
    (folder / "done").touch()
    return folder, time.perf_counter() - began


def side_of(rows: list[Row]) -> Row:
    """The runs of a side as one row."""
    return {
        "seconds": spread([row["seconds"] for row in rows]),
        "stage_seconds": spread([row["stage_seconds"] for row in rows]),
        "stall_seconds": spread([row["stall_seconds"] for row in rows]),
        "loaded_bytes": rows[0]["loaded_bytes"],
        "predicted_peak_bytes": rows[0]["predicted_peak_bytes"],
        "peak_bytes": max(row["peak_bytes"] for row in rows),
        "rss_peak_bytes": max(row["rss_peak_bytes"] for row in rows),
    }


def main(given: argparse.Namespace) -> None:
    """Measure, print and keep."""
    given.scratch.mkdir(parents=True, exist_ok=True)
    plain = Bench(TINY if given.tiny else FULL, given.scratch)
    packed_folder, packing_seconds = made(plain, given.kind)
    packed = PackedBench(plain.case, given.scratch, packed=packed_folder)
    rows: dict[str, list[Row]] = {side: [] for side in SIDES}
    texts: dict[str, torch.Tensor] = {}
    with tempfile.TemporaryDirectory(dir=given.scratch) as name:
        folder = Path(name)
        for pair in range(given.pairs):
            for side in SIDES[:: 1 if pair % 2 else -1]:
                rows[side].append(encode(packed if side == "packed" else plain, "wanflow", folder))
                texts[side] = load_file(folder / "wanflow.safetensors")["text"].float()
    pairs = list(zip(rows["packed"], rows["bf16"], strict=True))
    result: dict[str, Any] = {
        "benchmark": "packed_encode", "machine": machine_line("cpu"),
        "case": attrs.asdict(plain.case), "kind": given.kind, "pairs": given.pairs,
        "packing_seconds": packing_seconds, **{side: side_of(rows[side]) for side in SIDES},
        "packed_over_bf16": spread([a["seconds"] / b["seconds"] for a, b in pairs]),
        "stage_packed_over_bf16": spread(
            [a["stage_seconds"] / b["stage_seconds"] for a, b in pairs]
        ),
        "bytes_packed_over_bf16": pairs[0][0]["loaded_bytes"] / pairs[0][1]["loaded_bytes"],
        "relative_error": float(
            (texts["packed"] - texts["bf16"]).norm() / texts["bf16"].norm()
        ),
    }  # fmt: skip
    keep(result, given.out)
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--kind", default="int8")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/wf-scratch"))  # noqa: S108
    parser.add_argument("--out", type=Path, help="the JSON file [benchmarks/results/...]")
    parser.add_argument("--tiny", action="store_true", help="the tiny encoder")
    main(parser.parse_args())
