"""What a person writes who has diffusers alone, for weights of full size: one video, all resident.

python -m benchmarks.lib.plain_full OUTPUT WIDTH HEIGHT FRAMES STEPS GUIDANCE TEXT DIT VAE, folders.
"""

import sys
import time
from pathlib import Path

import av
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import AutoTokenizer, UMT5EncoderModel

output, (width, height, count, steps) = Path(sys.argv[1]), map(int, sys.argv[2:6])
guidance, text, dit, vae = float(sys.argv[6]), *map(Path, sys.argv[7:10])
began = time.perf_counter()


def tell(what: str) -> None:
    """Say how far it is, and when."""
    print(f"{time.perf_counter() - began:.1f} s: {what}", flush=True)


encoder = UMT5EncoderModel.from_pretrained(text / "text_encoder", dtype=torch.bfloat16)
tell("text encoder loaded")
transformer = WanTransformer3DModel.from_pretrained(dit / "transformer", torch_dtype=torch.bfloat16)
tell("transformer loaded")
pipeline = WanPipeline(
    tokenizer=AutoTokenizer.from_pretrained(text / "tokenizer"),
    text_encoder=encoder,
    transformer=transformer,
    vae=AutoencoderKLWan.from_pretrained(vae / "vae", torch_dtype=torch.float32),
    scheduler=UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
    ),
)
tell("all loaded")


def after_step(_pipeline: object, step: int, _time: object, values: dict) -> dict:  # type: ignore[type-arg]
    """Tell a step."""
    tell(f"step {step + 1} of {steps}")
    return values


frames = pipeline(
    prompt="a red circle moves right on a blue background",
    width=width, height=height, num_frames=count, num_inference_steps=steps,
    guidance_scale=guidance, generator=torch.Generator("cpu").manual_seed(0), output_type="np",
    callback_on_step_end=after_step,
).frames[0]  # fmt: skip
tell("decoded")
with av.open(str(output), "w") as container:
    stream = container.add_stream("libx264", rate=16)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    for frame in (frames * 255).round().astype("uint8"):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
    container.mux(stream.encode())
tell("written")
