"""One prompt encoded in a process of its own: `python -m benchmarks.lib.encoders`.

Reads a JSON object from stdin (`side`, and what that side is to do), writes the text as
safetensors, prints a JSON object. The clock starts after the imports: loading, planning and
computing are all in it, for both sides.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.lib.child import status_bytes, traced
from wanflow.models.weights.tokenizer import find_tokenizer, load_tokenizer
from wanflow.session import Request, run

_HEAVY = (
    "transformers.models.umt5.modeling_umt5", "transformers.masking_utils", "accelerate.hooks",
    "torch._subclasses.fake_tensor", "wanflow.stages.encode_text",
)  # fmt: skip
_STAGE = "encode"


def wanflow(asked: dict[str, Any], folder: Path) -> tuple[torch.Tensor, dict[str, Any]]:
    """Run the graph, whose output is the text; what the run and its trace say."""
    fields: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in asked["request"].items()
    }
    done = run(Request(**fields), out=folder / "run", force=True)
    (text,) = load_file(folder / "run" / "text.safetensors").values()
    plan = json.loads((folder / "run" / "plan.json").read_text())
    return text, {
        **done, **traced(folder / "run" / "trace.msgpack", _STAGE),
        "run_seconds": done["seconds"], "knobs": plan["stages"][0]["knobs"],
    }  # fmt: skip


def offloaded(asked: dict[str, Any], folder: Path) -> tuple[torch.Tensor, dict[str, Any]]:
    """Encode as the Wan pipelines do, the layers that have no room on the disk."""
    from transformers import UMT5EncoderModel

    weights, most = Path(asked["weights"]), asked["tokens"]
    ids, mask = load_tokenizer(find_tokenizer(weights))(asked["prompt"], most)
    model = UMT5EncoderModel.from_pretrained(
        weights, dtype=torch.bfloat16, device_map="auto",
        max_memory={"cpu": asked["cpu_memory"]}, offload_folder=folder / "offload",
    )  # fmt: skip
    with torch.no_grad():
        made = model(torch.tensor([ids]), torch.tensor([mask])).last_hidden_state
    kept = sum(mask)
    made[:, kept:] = 0
    places = list(model.hf_device_map.values())
    return made, {"on_disk": places.count("disk"), "in_memory": places.count("cpu"), "kept": kept}


def main() -> None:
    """Encode and tell."""
    asked = json.load(sys.stdin)
    side, folder = {"wanflow": wanflow, "offload": offloaded}[asked["side"]], Path(asked["folder"])
    for name in _HEAVY:
        importlib.import_module(name)
    before, began = status_bytes("VmRSS"), time.perf_counter()
    text, told = side(asked, folder)
    told["seconds"] = time.perf_counter() - began
    told |= {"rss_before_bytes": before, "rss_peak_bytes": status_bytes("VmHWM")}
    save_file({"text": text.contiguous()}, folder / f"{asked['side']}.safetensors")
    print(json.dumps(told), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
