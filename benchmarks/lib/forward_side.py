"""One side of `compiled_forward.py`: a process with a transformer, which does a forward when told.

    python -m benchmarks.lib.forward_side SIDE SIZE FRAMES LAYERS SHRINK OUT

Says a JSON object a line: first what its first forward took, compiling included, then each other.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.dit_forward import inputs, transformer
from benchmarks.lib.forwards import Inputs, by_rows, plain
from wanflow.models.segments.cut import dtype_of
from wanflow.models.wan.first_calls import FirstCalls
from wanflow.scheduler.run.devices import open_device

CPU = torch.device("cpu")


def forward(side: str, module: Any, x: Inputs, rows: int) -> Callable[[], torch.Tensor]:
    """Make a side ready: what is to be called for a forward."""
    if side == "diffusers":
        return lambda: plain(module, x)
    if side == "diffusers-compiled":
        module.compile_repeated_blocks(fullgraph=True)  # as diffusers' page on speed has it
        return lambda: plain(module, x)
    open_device(CPU)  # what a run does to its heap
    compiled = side == "wanflow-compiled"
    if compiled:
        FirstCalls(module, lambda n: dtype_of(module, n, "bf16"), CPU, by_token=False).make()
    return lambda: by_rows(module, x, rows, compiled=compiled)


def main(side: str, size: str, frames: str, layers: str, shrink: str, out: str) -> None:
    """Answer each line of stdin with a forward, until there is none."""
    module = transformer("cpu", int(layers) or None, shrink=shrink == "1")
    torch.manual_seed(1)
    x = inputs(module, size, int(frames), "cpu")
    with torch.no_grad():
        began = time.perf_counter()
        run = forward(side, module, x, 4096)
        torch.save(run(), out)
        print(json.dumps({"first": time.perf_counter() - began}), flush=True)
        for _ in sys.stdin:
            began, cpu = time.perf_counter(), time.process_time()
            run()
            took = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
            print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
