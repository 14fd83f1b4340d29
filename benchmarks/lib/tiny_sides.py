"""The two sides of `tiny_run`, each a process that is told what to do, line by line.

    python -m benchmarks.lib.tiny_sides ours|theirs

Reads JSON objects from stdin and answers each with one. So each side has its own memory and its
own ways with it, and they take turns.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wanflow.heap import ask_for_large_pages

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "wanflow" / "bundled" / "wan-tiny"
PROMPT, SEED, STEPS, GUIDANCE, FPS = "a red circle moves right", 11, 8, 5.0, 16
Row = dict[str, float]
Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def ours() -> Answer:
    """Plan and run, as the command line does, at a budget in bytes or `auto`."""
    ask_for_large_pages()  # before PyTorch is loaded
    from wanflow.session import Request, plan, run

    folder = Path(tempfile.mkdtemp())

    def answer(told: Mapping[str, Any]) -> Mapping[str, Any]:
        inputs: dict[str, str | int | float] = {"prompt": PROMPT, "seed": SEED}
        inputs |= {"steps": STEPS, "guidance": GUIDANCE}
        request = Request(
            "t2v-tiny", inputs, device="cpu", vram=told["vram"], exact=told["exact"],
            prompt_cache=False,
        )  # fmt: skip
        if told["plan"]:
            report: Any = plan(request).report
            return {key: report[key] for key in ("resident_bytes", "minimum_bytes")}
        began, spent = time.perf_counter(), time.process_time()
        done: Any = run(request, out=folder / "run", force=True)
        row = {"seconds_with_planning": time.perf_counter() - began}
        row["processor_seconds_with_planning"] = time.process_time() - spent
        keys = ("seconds", "budget_bytes", "predicted_peak_bytes", "peak_bytes")
        return row | {key: done[key] for key in keys}

    return answer


def theirs() -> Answer:
    """Load the pipeline, call it and write the video, or see once what it takes."""
    import torch
    from diffusers import WanPipeline

    from wanflow.scheduler.run.meter import AllocationMeter

    def answer(told: Mapping[str, Any]) -> Mapping[str, Any]:
        began = time.perf_counter()
        pipeline = WanPipeline.from_pretrained(TINY)
        pipeline.set_progress_bar_config(disable=True)
        loaded = time.perf_counter()

        def call() -> None:
            generator = torch.Generator("cpu").manual_seed(SEED)
            job = {"prompt": PROMPT, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
            job |= {"width": 64, "height": 64, "num_frames": 17, "output_type": "np"}
            write(pipeline(**job, generator=generator).frames[0])

        if told["measure"]:
            parts = (pipeline.text_encoder, pipeline.transformer, pipeline.vae)
            weights = sum(tensor.nbytes for part in parts for tensor in part.parameters())
            with AllocationMeter() as meter:
                call()
            return {"peak_bytes": weights + meter.peak_bytes}
        call()
        ended = time.perf_counter()
        return {"seconds": ended - loaded, "seconds_with_loading": ended - began}

    return answer


def write(frames: Any) -> None:
    """Write `[frames, height, width, 3]` from 0 to 1 as an mp4, as a script does."""
    import av

    with tempfile.NamedTemporaryFile(suffix=".mp4") as file, av.open(file.name, "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in (frames * 255).round().astype("uint8"):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def main() -> None:
    """Answer until there is no more to read."""
    answer = {"ours": ours, "theirs": theirs}[sys.argv[1]]()
    for line in sys.stdin:
        print("answer", json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
