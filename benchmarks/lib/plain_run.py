"""What a person writes who has diffusers alone: the tiny model's videos, from prompts to mp4 files.

python -m benchmarks.lib.plain_run OUTPUT [COUNT]: of COUNT seeds, OUTPUT with their numbers in it.
"""

import sys
from pathlib import Path

import av
import torch
from diffusers import WanPipeline

TINY = Path(__file__).parents[2] / "wanflow" / "bundled" / "wan-tiny"
PROMPT, SEED, STEPS, GUIDANCE, FPS = "a red circle moves right", 11, 8, 5.0, 16

output, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
pipeline = WanPipeline.from_pretrained(TINY)
pipeline.set_progress_bar_config(disable=True)
for number in range(count):
    generator = torch.Generator("cpu").manual_seed(SEED + number)
    job = {"prompt": PROMPT, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
    job |= {"width": 64, "height": 64, "num_frames": 17, "output_type": "np"}
    frames = pipeline(**job, generator=generator).frames[0]
    with av.open(str(output.with_stem(f"{output.stem}{number or ''}")), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in (frames * 255).round().astype("uint8"):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
