"""What opening packed weights costs: a block of the 1.3B transformer, by rows, as a run has it.

    python -m benchmarks.packed_block [--rounds 15] [--size 480*272] [--frames 17]

Random weights. A block in bf16, with its ten Linears as int8 and as fp8 (made here), and with
diffusers' GGUF Linears as Q8_0; then the ten Linears alone, on the shapes that the block has. They
take turns in one process, a round to warm up first; a share is that of bf16 in its own round.
Prints a line each, then one JSON object, which goes into benchmarks/results/ too.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.dit_forward import inputs, transformer
from benchmarks.lib.report import keep, machine_line, spread
from wanflow.models.packing.linear import put_in
from wanflow.models.packing.made import form_of, pack
from wanflow.models.segments.cut import packable
from wanflow.models.wan import dit_rows
from wanflow.models.wan.dit_rows import Rows
from wanflow.models.wan.rope import Grid, make_rope

Run = Callable[[], torch.Tensor]


def packed_block(block: Any, kind: str) -> Any:
    """A copy of a block whose large weights are packed."""
    wrapped = torch.nn.ModuleList([copy.deepcopy(block)])
    holder = torch.nn.ModuleDict({"blocks": wrapped})
    names = packable(holder)
    weights = {name: holder.get_parameter(name).data for name in names}
    forms = {name: form_of(kind, tuple(weight.shape)) for name, weight in weights.items()}
    put_in(holder, forms, torch.bfloat16)
    for name, weight in weights.items():
        linear = holder.get_submodule(name.removesuffix(".weight"))
        for leaf, piece in pack(kind, weight).items():
            setattr(linear, leaf, torch.nn.Parameter(piece, requires_grad=False))
    return wrapped[0]


def gguf_block(block: Any) -> Any:
    """A copy of a block with diffusers' own Linears for GGUF, as Q8_0."""
    import gguf
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter

    made = copy.deepcopy(block)
    for path, linear in list(made.named_modules()):
        if type(linear) is not torch.nn.Linear:
            continue
        numbers = gguf.quants.quantize(
            linear.weight.float().numpy(), gguf.GGMLQuantizationType.Q8_0
        )
        new = GGUFLinear(
            linear.in_features, linear.out_features, linear.bias is not None,
            compute_dtype=torch.bfloat16,
        )  # fmt: skip
        new.weight = GGUFParameter(
            torch.from_numpy(numbers), quant_type=gguf.GGMLQuantizationType.Q8_0
        )
        new.bias = linear.bias
        above, _, leaf = path.rpartition(".")
        setattr(made.get_submodule(above), leaf, new)
    return made


def block_runs(module: Any, x: Any, rows: int) -> dict[str, Run]:
    """A block's forward in each form; *rows* at a time."""
    shape = tuple(x.latents.shape)
    rope = make_rope(module, Grid.of(module, shape), x.latents.device)
    made = dit_rows.embed(module, x.latents, x.timestep, x.text, Rows(rows))

    def run(block: Any) -> Run:
        def forward() -> torch.Tensor:
            hidden = made.hidden.clone()
            scaled = dit_rows.scales(block, made.modulation)
            dit_rows.attend(block, hidden, scaled, rope, Rows(rows))
            dit_rows.cross(block, hidden, made.context, Rows(rows))
            dit_rows.feed(block, hidden, scaled, Rows(rows))
            return hidden

        return forward

    plain = module.blocks[0]
    blocks = {"bf16": plain, "int8": packed_block(plain, "int8"), "fp8": packed_block(plain, "fp8")}
    return {name: run(block) for name, block in (blocks | {"q8_0": gguf_block(plain)}).items()}


def linear_runs(module: Any, x: Any) -> dict[str, Run]:
    """The ten Linears of a block one after the other, on as many rows as the block has."""
    plain = module.blocks[0]
    tokens = Grid.of(module, tuple(x.latents.shape)).tokens
    blocks = {
        "bf16": plain, "int8": packed_block(plain, "int8"), "fp8": packed_block(plain, "fp8"),
        "q8_0": gguf_block(plain),
    }  # fmt: skip
    given = {
        linear.in_features: torch.randn(1, tokens, linear.in_features).bfloat16()
        for linear in plain.modules()
        if isinstance(linear, torch.nn.Linear)
    }

    def run(block: Any) -> Run:
        linears = [m for m in block.modules() if hasattr(m, "in_features")]

        def forward() -> torch.Tensor:
            for linear in linears:
                made = linear(given[linear.in_features])
            return torch.as_tensor(made)

        return forward

    return {name: run(block) for name, block in blocks.items()}


def compared(runs: dict[str, Run], rounds: int) -> list[dict[str, Any]]:
    """Take turns; shares are of bf16 in the same round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    apart: dict[str, float] = {}
    for number in range(rounds + 1):
        expected: torch.Tensor | None = None
        for name, run in runs.items():
            began = time.perf_counter()
            made = run()
            took = time.perf_counter() - began
            expected = made if expected is None else expected
            apart[name] = float((made.float() - expected.float()).norm() / expected.float().norm())
            if number:
                seconds[name].append(took)
    return [
        {
            "case": name,
            "seconds": spread(found),
            "share": spread([a / b for a, b in zip(found, seconds["bf16"], strict=True)]),
            "relative_error": round(apart[name], 5),
        }
        for name, found in seconds.items()
    ]


def main(given: argparse.Namespace) -> None:
    """Measure, print and keep."""
    module = transformer("cpu", 1, shrink=given.shrink)
    x = inputs(module, given.size, given.frames, "cpu")
    with torch.no_grad():
        block = compared(block_runs(module, x, 4096), given.rounds)
        linears = compared(linear_runs(module, x), given.rounds)
    for title, rows in (("block", block), ("linears", linears)):
        for row in rows:
            print(
                f"{title:>8} {row['case']:>6}  {row['seconds']['median']:.3f} s  "
                f"{row['share']['median']:.3f}  error {row['relative_error']}"
            )
    report = {
        "benchmark": "packed_block", "machine": machine_line("cpu"), "size": given.size,
        "frames": given.frames, "rounds": given.rounds, "block": block, "linears": linears,
    }  # fmt: skip
    keep(report, given.out)
    print(json.dumps(report))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", default="480*272")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--shrink", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--out", type=Path, help="where the JSON goes [benchmarks/results]")
    main(parser.parse_args())
