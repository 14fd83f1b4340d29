"""How much memory does a transformer's forward take at its peak? By profile: no weights, no GPU.

    python -m benchmarks.lean_peaks [--cases 14b-480p ..]

Each forward runs on fake tensors as the planner's profiles do: diffusers' own (`all`), and a chunk
of rows at a time. Peaks are bytes without the weights, everything else included: inputs, hidden
state, what kernels take, prediction. bf16, batch 1, 512 tokens of text. Of the blocks, which are
alike, only two are there; FLOPs are a share of diffusers' on the same two. The cases `decode-*` and
`encode-*` are the VAE's instead, weights included, as planned for a card with a host
(`lib/decodes.py`, `lib/encodes.py`).
Prints one JSON object, which goes into benchmarks/results/ too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from benchmarks.lib import decodes, encodes
from benchmarks.lib.forwards import Inputs, by_rows, plain
from benchmarks.lib.programs import Calls
from benchmarks.lib.report import keep, machine_line
from wanflow.graph.configs import known_config
from wanflow.models.segments.cut import dtype_of
from wanflow.models.segments.upstream import build_upstream
from wanflow.models.wan.rope import Grid
from wanflow.scheduler.footprint.lifetimes import lifetimes
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.scheduler.program import Call, Program, Tensors

_TI2V_5B = {
    **known_config("wan2.1-t2v-1.3b", "transformer"),
    "num_attention_heads": 24, "in_channels": 48, "out_channels": 48, "ffn_dim": 14336,
}  # fmt: skip
VALUES = ("all", "4096", "1024", "grouped")


@attrs.frozen
class Case:
    """A transformer and the latents `[1, C, F, h, w]` it is given."""

    config: Mapping[str, Any]  # of two blocks: the others are like them
    shape: tuple[int, ...]
    times_per_token: bool = False


_14B = known_config("wan2.1-t2v-14b", "transformer")
_1_3B = known_config("wan2.1-t2v-1.3b", "transformer")
CASES = {
    "14b-480p": Case(_14B, (1, 16, 21, 60, 104)),
    "14b-720p": Case(_14B, (1, 16, 21, 90, 160)),
    "1.3b-480p": Case(_1_3B, (1, 16, 21, 60, 104)),
    "1.3b-720p": Case(_1_3B, (1, 16, 21, 90, 160)),
    "ti2v-5b-704p-121": Case(_TI2V_5B, (1, 48, 31, 44, 80), times_per_token=True),
}


@attrs.frozen
class Forward:
    """The inputs, and a forward on a module whose weights are made in it: a call each."""

    case: Case
    value: str
    module: Any

    def program(self) -> Program:
        """Make a program of both calls."""
        reads = ("denoise.latents", "denoise.times", "denoise.text", "denoise.index")
        made = Call("inputs", self._inputs), Call(self.value, self._forward, reads)
        return Calls("denoise", made)

    def _inputs(self, _values: Tensors) -> Tensors:
        made = {
            "denoise.latents": torch.zeros(self.case.shape, dtype=torch.bfloat16),
            "denoise.text": torch.zeros(1, 512, 4096, dtype=torch.bfloat16),
            "denoise.times": torch.zeros(2 if self.case.times_per_token else 1, dtype=torch.int64),
        }
        if self.case.times_per_token:
            tokens = Grid.of(self.module, self.case.shape).tokens
            made["denoise.index"] = torch.zeros(1, tokens, dtype=torch.int64)
        return made

    def _forward(self, values: Tensors) -> Tensors:
        module, names = self.module, ("latents", "times", "text", "index")
        given = Inputs(*(values.get(f"denoise.{name}") for name in names))  # type: ignore[arg-type]
        fill(module)
        if self.value == "all":
            return {"denoise.prediction": plain(module, given)}
        size = 1024 if self.value == "grouped" else int(self.value)
        made = by_rows(module, given, size, grouped=self.value == "grouped")
        return {"denoise.prediction": made}


def fill(module: Any) -> None:
    """Give a meta module weights of the mode's own (fake) kind, and a rotary table."""
    config, rope = module.config, type(module.rope)
    module.rope = rope(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
    for name, parameter in list(module.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        made = torch.empty(parameter.shape, dtype=dtype_of(module, name, "bf16"))
        setattr(module.get_submodule(owner), leaf, torch.nn.Parameter(made, requires_grad=False))


def weights_bytes(module: Any) -> int:
    """Bytes of the parameters and of the rotary tables that belong to the module."""
    tables = [*module.rope.buffers()]
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *tables))


def peak(case: Case, value: str) -> dict[str, Any]:
    """Profile one forward: its peak without the weights, and its FLOPs."""
    module = build_upstream("transformer", {**case.config, "num_layers": 2})
    programs = (Forward(case, value, module).program(),)
    found = Profiler("cpu").profile(programs, {}, lambda _name: False)
    step = found.calls[1]
    return {
        "peak_bytes": lifetimes(found).need_bytes[1] - weights_bytes(module),
        "weights_bytes": weights_bytes(module),
        "flops": sum(step.cost.flops.values()),
    }


def measure(name: str) -> list[dict[str, Any]]:
    """Profile every way to run a case."""
    if name in encodes.CASES:
        return encodes.measure(name)
    if name in decodes.CASES:
        return decodes.measure(name)
    rows = [{"model": name, "rows": value, **peak(CASES[name], value)} for value in VALUES]
    for row in rows:
        row["peak_over_plain"] = round(row["peak_bytes"] / rows[0]["peak_bytes"], 4)
        row["flops_over_plain"] = round(row["flops"] / rows[0]["flops"], 4)
    return rows


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    names = (*CASES, *decodes.CASES, *encodes.CASES)
    default = (*CASES, *decodes.CASES)
    parser.add_argument("--cases", nargs="+", choices=names, default=default)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = [row for name in asked.cases for row in measure(name)]
    report = {"benchmark": "lean_peaks", "machine": machine_line("cpu"), "rows": rows}
    keep(report, asked.out, name="profile")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
