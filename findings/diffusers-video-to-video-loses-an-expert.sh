#!/bin/bash
# diffusers 0.42.1: WanVideoToVideoPipeline knows one transformer. Of a folder of Wan2.2 A14B, which has two and says at which
# noise the second takes over, from_pretrained loads the first and says nothing; so does from_pipe of a WanPipeline with both.
# The first was trained for the noisiest steps only, and video to video by its nature runs the others: at the default
# strength 0.8 of 40 steps at shift 3 only a few are the first's by the folder's own boundary, and all are given to it.
#
# Seen: "from_pretrained: 1 transformer, from_pipe: 1 transformer, warnings that name the second: 0", "of the 32 steps 5 are
# at or above the boundary, the one transformer makes 32". Exit 0 while that is so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    diffusers==0.42.1 torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 ftfy==6.3.1
cd "$work"
"$work/venv/bin/python" - 2>"$work/err" <<'P' || { tail -5 "$work/err"; exit 1; }
import logging
import warnings

import torch
from diffusers import (
    AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel, WanVideoToVideoPipeline,
)
from PIL import Image


def transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, text_dim=16, freq_dim=16, ffn_dim=32, num_layers=1
    ).eval()


class Notes(logging.Handler):
    """Keeps what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        said.append(record.getMessage())


said: list[str] = []
logging.getLogger("diffusers").addHandler(Notes())
WanPipeline(
    tokenizer=None, text_encoder=None, vae=AutoencoderKLWan(base_dim=8), transformer=transformer(),
    transformer_2=transformer(), boundary_ratio=0.875,
    scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
).save_pretrained("a14b")
both = WanPipeline.from_pretrained("a14b", tokenizer=None, text_encoder=None)
assert both.transformer_2 is not None
said.clear()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    loaded = WanVideoToVideoPipeline.from_pretrained("a14b", tokenizer=None, text_encoder=None)
    taken = WanVideoToVideoPipeline.from_pipe(both)
said += [str(warning.message) for warning in caught]
counts = [sum(isinstance(part, WanTransformer3DModel) for part in p.components.values()) for p in (loaded, taken)]
named = sum("transformer_2" in text or "boundary" in text for text in said)
print(f"from_pretrained: {counts[0]} transformer, from_pipe: {counts[1]} transformer, warnings that name the second: {named}")

asked: list[float] = []
loaded.transformer.register_forward_pre_hook(lambda _, __, given: asked.append(given["timestep"].item()), with_kwargs=True)
loaded.set_progress_bar_config(disable=True)
with torch.no_grad():
    loaded(
        video=[Image.new("RGB", (32, 32))] * 5, height=32, width=32, num_inference_steps=40, guidance_scale=1.0,
        prompt_embeds=torch.ones(1, 3, 16), output_type="latent",
    )
firsts = sum(time >= 875 for time in asked)
print(f"of the {len(asked)} steps {firsts} are at or above the boundary, the one transformer makes {len(asked)}")
raise SystemExit(not (counts == [1, 1] and named == 0 and len(asked) == 32 and firsts < 8))
P
