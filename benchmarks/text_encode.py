"""Is a prompt encoded from a cold disk sooner, in less memory, than by accelerate? UMT5-XXL.

    python -m benchmarks.text_encode [--pairs 3] [--exact] [--shrink]

UMT5-XXL with random bf16 weights (11.4 GB, made in --scratch and kept there), a prompt of 64
tokens. wanflow has a budget of 600 MB; the peer is transformers with accelerate's disk offload and
3 GiB of RAM, the prompt padded to 512 as the Wan pipelines do. They take turns, each run a process
of its own, with the page cache dropped before it (as root; else the checkpoint alone is
forgotten). Prints a line a run, then one JSON object, which goes into benchmarks/results/ too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs
from safetensors.torch import load_file

from benchmarks.cpu_budget import forget, read_through
from benchmarks.lib.environment import ROOT
from benchmarks.lib.report import error, keep, machine_line, spread
from scripts.make_checkpoint import make_part
from wanflow.graph.configs import known_config
from wanflow.models.weights.tokenizer import find_tokenizer, load_tokenizer
from wanflow.session import Request, plan

Row = dict[str, Any]
MOST = 512
BOUND = 2**-6  # largest difference of the texts over the largest value, bf16 through 24 layers
_WORDS = ("red", "circle", "moves", "right", "on", "a", "blue", "background", "while", "green")
_DROP = Path("/proc/sys/vm/drop_caches")
_GRAPH = """\
wanflow: 1
name: {name}
inputs:
  prompt: {{type: text}}
models:
  text: {{part: text_encoder, config: {config}, path: {path}, precision: bf16}}
stages:
  encode: {{op: encode_text, model: text, in: {{prompt: $prompt}}}}
outputs:
  text: encode.text
"""


@attrs.frozen
class Case:
    """A text encoder, and the memory that each side may take."""

    name: str
    config: str
    tokens: int
    vram: str
    cpu_memory: str


FULL = Case("umt5-xxl", "wan2.1-t2v-1.3b", 64, "600MB", "3GiB")
TINY = Case("umt5-tiny", "wan-tiny", 24, "2MB", "600KB")


@attrs.frozen
class Bench:
    """The files of a case, and how each side is asked."""

    case: Case
    scratch: Path
    weights: Path = attrs.field(init=False)
    prompt: str = attrs.field(init=False)

    @weights.default
    def _make(self) -> Path:
        fields = known_config(self.case.config, "text_encoder")
        folder = self.scratch.resolve() / f"{self.case.name}-bf16"
        return make_part(folder, "text_encoder", fields, "bf16")

    @prompt.default
    def _words(self) -> str:
        """Words that are as many tokens as asked for, the end of the prompt included."""
        tokenize, words = load_tokenizer(find_tokenizer(self.weights)), [_WORDS[0]]
        while sum(tokenize(" ".join(words), MOST)[1]) < self.case.tokens:
            words.append(_WORDS[len(words) % len(_WORDS)])
        return " ".join(words)

    def request(self, *, exact: bool = False) -> Request:
        """What wanflow is asked for."""
        graph = self.scratch / f"{self.case.name}.yaml"
        told = {"config": self.case.config, "path": json.dumps(str(self.weights.parent))}
        graph.write_text(_GRAPH.format(name=self.case.name, **told))
        vram = self.case.vram if not exact else "auto"
        return Request(
            str(graph), {"prompt": self.prompt}, device="cpu", vram=vram, exact=exact,
            prompt_cache=False,
        )  # fmt: skip

    def asked(self, side: str, folder: Path, *, exact: bool = False) -> Row:
        """What a side's process reads."""
        shared = {"side": side, "folder": str(folder)}
        if side == "wanflow":
            return {**shared, "request": attrs.asdict(self.request(exact=exact))}
        case = self.case
        return {
            **shared, "weights": str(self.weights), "prompt": self.prompt, "tokens": MOST,
            "cpu_memory": case.cpu_memory,
        }  # fmt: skip


def drop_caches(bench: Bench) -> str:
    """Have the page cache hold nothing of the checkpoint; say how."""
    forget(bench.weights)
    if bench.case is TINY:  # the suite leaves the machine's other pages alone
        return "posix_fadvise"
    os.sync()
    try:
        _DROP.write_text("3")
    except OSError:
        return "posix_fadvise"
    return "drop_caches"


def encode(bench: Bench, side: str, folder: Path, *, exact: bool = False) -> Row:
    """Let a side encode from a cold cache, in a process with caches of its own."""
    drop_caches(bench)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory(dir=folder) as caches:
        mine = {"XDG_CACHE_HOME": caches, "XDG_CONFIG_HOME": caches}
        if side != "offload":
            mine["THP_MEM_ALLOC_ENABLE"] = "1"  # as the command line has it
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.lib.encoders"],
            input=json.dumps(bench.asked(side, folder, exact=exact)),
            capture_output=True, text=True, cwd=ROOT, check=False,
            env={**os.environ, **mine, "PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip
    if done.returncode:
        sys.exit(f"{side}: exit {done.returncode}\n{done.stderr[-2000:]}")
    row = dict(json.loads(done.stdout.splitlines()[-1]))
    what = {"tensors": row.get("peak_bytes"), "stall": row.get("stall_seconds")}
    print(f"{side}: {row['seconds']:.2f} s, rss {row['rss_peak_bytes']}, {what}", flush=True)
    return row


def difference(folder: Path) -> float:
    """How far the two texts are apart at most, over the largest value."""
    ours, theirs = (
        load_file(folder / f"{side}.safetensors")["text"].float() for side in ("wanflow", "offload")
    )
    if ours.shape != theirs.shape or not theirs.isfinite().all():
        sys.exit(f"the texts are {list(ours.shape)} and {list(theirs.shape)}, or no numbers")
    return float((ours - theirs).abs().max() / theirs.abs().max())


def told(bench: Bench, ours: list[Row], theirs: list[Row]) -> Row:
    """All runs of wanflow as one row, beside the peer's."""
    first = ours[0]
    peak = max(row["peak_bytes"] for row in ours)
    took = spread([row["stage_seconds"] for row in ours])
    report: Any = plan(bench.request()).report
    return {
        "case": bench.case.name, "budget": "", "budget_bytes": first["budget_bytes"],
        "predicted_peak_bytes": first["predicted_peak_bytes"], "peak_bytes": peak,
        "peak_source": first["peak_source"], "knobs": first["knobs"],
        "peak_error": error(first["predicted_peak_bytes"], peak),
        "predicted_stage_seconds": report["stages"][0]["seconds"], "stage_seconds": took,
        "time_error": error(report["stages"][0]["seconds"], took["median"]),
        "seconds": spread([row["seconds"] for row in ours]),
        "stall_seconds": spread([row["stall_seconds"] for row in ours]),
        "load_bytes_per_second": spread(
            [row["loaded_bytes"] / row["loading_seconds"] for row in ours]
        ),
        "rss_peak_bytes": max(row["rss_peak_bytes"] for row in ours),
        "offload_seconds": spread([row["seconds"] for row in theirs]),
        "offload_rss_peak_bytes": max(row["rss_peak_bytes"] for row in theirs),
        "offload_modules": {key: theirs[0][key] for key in ("on_disk", "in_memory")},
    }  # fmt: skip


def main(given: argparse.Namespace) -> None:
    """Measure, print and keep."""
    given.scratch.mkdir(parents=True, exist_ok=True)
    bench = Bench(TINY if given.shrink else FULL, given.scratch)
    rows: dict[str, list[Row]] = {"wanflow": [], "offload": []}
    apart, same = [], None
    with tempfile.TemporaryDirectory(dir=given.scratch) as name:
        folder = Path(name)
        for pair in range(given.pairs):
            for side in sorted(rows, reverse=bool(pair % 2)):
                rows[side].append(encode(bench, side, folder))
            apart.append(difference(folder))
        if given.exact:
            encode(bench, "wanflow", folder, exact=True)
            same = difference(folder) == 0
        how = drop_caches(bench)
        size = sum(path.stat().st_size for path in bench.weights.glob("*.safetensors"))
        rate = size / read_through(bench.weights, cold=True)
    pairs = zip(rows["wanflow"], rows["offload"], strict=True)
    result = {
        "benchmark": "text_encode", "machine": machine_line("cpu"),
        "case": attrs.asdict(bench.case), "pairs": given.pairs, "cold_by": how,
        "disk_bytes_per_second": rate, "rows": [told(bench, rows["wanflow"], rows["offload"])],
        "wanflow_over_offload": spread([a["seconds"] / b["seconds"] for a, b in pairs]),
        "largest_difference": max(apart), "bound": BOUND, "agree": max(apart) <= BOUND,
        "exact_is_bit_identical": same,
    }  # fmt: skip
    keep(result, given.out)
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--exact", action="store_true", help="one more run, compared bit by bit")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/wf-scratch"))  # noqa: S108
    parser.add_argument("--out", type=Path, help="the JSON file [benchmarks/results/...]")
    parser.add_argument("--shrink", action="store_true", help="the tiny encoder")
    main(parser.parse_args())
