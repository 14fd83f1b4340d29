#!/bin/bash
# diffusers 0.42.1, WanVACEPipeline: several reference pictures reach the transformer in the reverse of the order in which
# they are given, because each is put before those that came before it. Wan's own code (wan/vace.py) keeps the order; rotary
# positions differ by it, so the same list, seed and weights give another video in the two.
#
# Seen of the references [dark, light]: "latent frame 0 is the light one, 1 the dark one". Exit 0 while that is so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check diffusers==0.42.1 torch==2.13.0 transformers==5.23.0 ftfy==6.3.1
"$work/venv/bin/python" - 2>"$work/err" <<'P' || { tail -5 "$work/err"; exit 1; }
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel

torch.manual_seed(0)
Z = 16
pipeline = WanVACEPipeline(
    tokenizer=None,
    text_encoder=None,
    vae=AutoencoderKLWan(base_dim=8, z_dim=Z).eval(),
    scheduler=UniPCMultistepScheduler(),
    transformer=WanVACETransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, text_dim=32, freq_dim=32, ffn_dim=64, num_layers=2, vace_layers=[0],
        vace_in_channels=96,
    ),
)
video, mask = torch.zeros(1, 3, 5, 32, 32), torch.ones(1, 3, 5, 32, 32)
references = [torch.full((3, 32, 32), level) for level in (-0.9, 0.9)]


def latents(pictures: list[torch.Tensor]) -> torch.Tensor:
    """Their latent frames, `[n, Z, 4, 4]`."""
    with torch.no_grad():
        return pipeline.prepare_video_latents(video, mask, [pictures])[0, :Z, : len(pictures)].transpose(0, 1)


dark, light = (latents([picture])[0] for picture in references)
both = latents(references)
assert not torch.equal(dark, light)
names = ["the light one" if torch.equal(frame, light) else "the dark one" for frame in both]
print(f"latent frame 0 is {names[0]}, 1 {names[1]}")
raise SystemExit(names != ["the light one", "the dark one"])
P
