"""One run in a process of its own, measured from outside: `python -m benchmarks.lib.child`.

Reads a JSON object from stdin (`request`, `out`), prints one: what run.json holds and what the
kernel, the driver and the trace say.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.lib.driver import Driver
from wanflow.errors import WanflowError
from wanflow.session import Request, run
from wanflow.trace import read
from wanflow.trace.events import Move, Note, StageSpan, Step, Transfer

_HEAVY = (
    "diffusers.models.transformers.transformer_wan", "transformers.models.umt5.modeling_umt5",
    "diffusers.schedulers.scheduling_unipc_multistep", "safetensors.torch",
    "wanflow.stages.denoise",
    "wanflow.stages.encode_text", "transformers.masking_utils", "torch._subclasses.fake_tensor",
)  # fmt: skip


def status_bytes(field: str) -> int:
    """`VmRSS` or `VmHWM` of this process."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def traced(path: Path, stage: str) -> dict[str, Any]:
    """What the trace says of *stage*: its time, its steps, its loads, what compute waited."""
    events = list(read(path))
    spans = [e for e in events if isinstance(e, StageSpan) and e.stage == stage]
    loads = [e for e in events if isinstance(e, Transfer) and e.stage == stage]
    steps = [e for e in events if isinstance(e, Step) and e.stage == stage]
    leaving = sum(e.waited_ns for e in events if isinstance(e, Move) and e.stage == stage)
    return {
        "stage_seconds": sum(s.ended_ns - s.began_ns for s in spans) / 1e9,
        "step_seconds": [(s.ended_ns - s.began_ns) / 1e9 for s in steps],
        "stall_seconds": (sum(load.waited_ns for load in loads) + leaving) / 1e9,
        "loaded_bytes": sum(load.nbytes for load in loads),
        "loading_seconds": sum(load.ended_ns - load.began_ns for load in loads) / 1e9,
        "notes": [f"{e.topic}: {e.text}" for e in events if isinstance(e, Note)],
    }


def result_of(folder: Path) -> dict[str, Any]:
    """The latents' fingerprint, and whether they are numbers at all."""
    from safetensors.torch import load_file

    (latents,) = load_file(folder / "latents.safetensors").values()
    digest = hashlib.sha256(latents.numpy().tobytes()).hexdigest()
    return {"sha256": digest, "finite": bool(latents.isfinite().all())}


def allocator(device: str) -> dict[str, int]:
    """CUDA's allocator at its fullest; nothing on a CPU."""
    if device == "cpu":
        return {}
    return {
        "allocated_peak_bytes": torch.cuda.max_memory_allocated(device),
        "allocator_reserved_bytes": torch.cuda.max_memory_reserved(device),
    }


def main() -> None:
    """Run and tell."""
    asked = json.load(sys.stdin)
    fields: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in asked["request"].items()
    }
    out = Path(asked["out"])
    for name in _HEAVY:
        importlib.import_module(name)
    before = status_bytes("VmRSS")
    with suppress(OSError):  # where that is allowed, VmHWM starts again at VmRSS
        Path("/proc/self/clear_refs").write_text("5")
    began = time.perf_counter()
    with Driver(fields["device"]) as driver:
        try:
            done = run(Request(**fields), out=out, force=True)
        except WanflowError as error:
            told: dict[str, Any] = {"error": error.message, "exit_code": error.exit_code}
            print(json.dumps(told))
            return
        told = {**done, **allocator(fields["device"])}
    told["process_seconds"] = time.perf_counter() - began
    told |= {"rss_before_bytes": before, "rss_growth_bytes": status_bytes("VmHWM") - before}
    told |= {"driver_peak_bytes": driver.peak_bytes, "driver_source": driver.source}
    told |= traced(out / "trace.msgpack", "denoise") | result_of(out)
    plan = json.loads((out / "plan.json").read_text())
    told["planned"] = next(s for s in plan["stages"] if s["stage"] == "denoise")
    print(json.dumps(told))
    sys.stdout.flush()
    os._exit(0)  # no time is spent on putting gigabytes away


if __name__ == "__main__":
    main()
