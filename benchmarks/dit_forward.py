"""Does a forward by rows take longer? One full-size 1.3B forward on this device against diffusers'.

    python -m benchmarks.dit_forward [--rounds 3] [--size 480*272] [--frames 17] [--device cpu]
                                     [--values all 4096 1024 grouped] [--layers 2] [--shrink]

Random bf16 weights, the same module for all: diffusers' own forward, and ours by its parts (`all`)
or a chunk of rows at a time. They take turns in one process, a round to warm up first; a share is
that of a round. `default` is what the planner takes here. Prints a line each, then one JSON object,
which goes into benchmarks/results/ too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.lib.forwards import Inputs, by_rows, plain, staged
from benchmarks.lib.report import keep, machine_line, spread
from wanflow.graph.configs import known_config
from wanflow.models.segments.cut import dtype_of
from wanflow.models.segments.upstream import build_upstream
from wanflow.session import Request, plan

VALUES = ("all", "4096", "1024", "grouped")
DIFFUSERS = "diffusers"


def transformer(device: str, layers: int | None, *, shrink: bool) -> Any:
    """A module with random weights, each parameter in the dtype that upstream loads it in."""
    fields = dict(known_config("wan2.1-t2v-1.3b", "transformer"))
    if shrink:
        fields |= {"num_layers": 2, "num_attention_heads": 2, "ffn_dim": 512}
    if layers is not None:
        fields |= {"num_layers": layers}
    module: Any = build_upstream("transformer", fields)
    torch.manual_seed(0)
    for path, parameter in list(module.named_parameters()):
        made = torch.empty(parameter.shape, dtype=dtype_of(module, path, "bf16"), device=device)
        owner, _, leaf = path.rpartition(".")
        std = 0.02 if made.ndim > 1 else 1.0
        weight = torch.nn.Parameter(made.normal_(std=std), requires_grad=False)
        setattr(module.get_submodule(owner), leaf, weight)
    made = type(module.rope)(
        module.config.attention_head_dim, module.config.patch_size, module.config.rope_max_seq_len
    )
    module.rope = made.to(device)
    return module.eval()


def inputs(module: Any, size: str, frames: int, device: str) -> Inputs:
    """Noise, text and a timestep."""
    width, height = map(int, size.split("*"))
    shape = (1, module.config.in_channels, (frames - 1) // 4 + 1, height // 8, width // 8)
    latents = torch.randn(shape, device=device, dtype=torch.bfloat16)
    text = torch.randn(1, 512, module.config.text_dim, device=device, dtype=torch.bfloat16)
    return Inputs(latents, torch.tensor([500], device=device), text)


def default(size: str, frames: int, device: str) -> str:
    """What the planner takes for such a forward."""
    asked: dict[str, str | int] = {"size": size, "frames": frames, "steps": 1, "prompt": "x"}
    made = plan(Request("t2v-1.3b", asked, device=device)).plan
    return made.knobs["denoise"]["rows"]


def timed(run: Callable[[], torch.Tensor], device: str) -> tuple[float, torch.Tensor]:
    """Seconds, and what came out."""
    began = time.perf_counter()
    made = run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began, made


def difference(made: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest one, as a share of the largest number."""
    return float((made.float() - expected.float()).abs().max() / expected.float().abs().max())


def main(given: argparse.Namespace) -> None:
    """Measure, print and keep."""
    size, frames, device = given.size, given.frames, given.device
    module = transformer(device, given.layers, shrink=given.shrink)
    x = inputs(module, size, frames, device)
    runs: dict[str, Callable[[], torch.Tensor]] = {DIFFUSERS: lambda: plain(module, x)}
    for value in given.values:
        runs[value] = _run(module, x, value)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    apart: dict[str, float] = {}
    with torch.no_grad():
        for number in range(given.rounds + 1):
            expected = None
            for name, run in runs.items():
                took, made = timed(run, device)
                expected = made if expected is None else expected
                apart[name] = difference(made, expected)
                if number:
                    seconds[name].append(took)
    rows: list[dict[str, Any]] = [
        {
            "case": name,
            "seconds": spread(found),
            "share": spread([a / b for a, b in zip(found, seconds[DIFFUSERS], strict=True)]),
            "difference": apart[name],
        }
        for name, found in seconds.items()
    ]
    for row in rows:
        print(f"{row['case']:>10}  {row['seconds']['median']:.2f} s  {row['share']['median']:.3f}")
    report = {
        "benchmark": "dit_forward", "machine": machine_line(device), "size": size,
        "frames": frames, "layers": len(module.blocks), "rounds": given.rounds, "rows": rows,
        "default": default(size, frames, device),
    }  # fmt: skip
    keep(report, given.out)
    print(json.dumps(report))


def _run(module: Any, x: Inputs, value: str) -> Callable[[], torch.Tensor]:
    if value == "all":
        return lambda: staged(module, x)
    if value == "grouped":
        return lambda: by_rows(module, x, 1024, grouped=True)
    return lambda: by_rows(module, x, int(value))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="480*272")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--values", nargs="+", choices=VALUES, default=VALUES)
    parser.add_argument("--layers", type=int, help="so many blocks, which are alike [all]")
    parser.add_argument("--out", type=Path, help="the JSON file [benchmarks/results/...]")
    parser.add_argument("--shrink", action="store_true", help="two narrow blocks")
    main(parser.parse_args())
