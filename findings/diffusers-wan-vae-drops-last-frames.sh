#!/bin/bash
# diffusers 0.42.1, AutoencoderKLWan.encode: it takes the first frame and then fours. Up to three frames at the end that fill
# no four are left out; no error, no warning, and the latents are those of the video without them. What is decoded is shorter
# than what was given: 80 frames, five seconds of 16, come back as 77.
#
# Seen of 8 frames: "latent frames: 2, decoded: 5 of 8; other last three frames, same latents: True". Exit 0 while that is so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check diffusers==0.42.1 torch==2.13.0 transformers==5.23.0
"$work/venv/bin/python" - 2>"$work/err" <<'P' || { tail -5 "$work/err"; exit 1; }
import torch
from diffusers import AutoencoderKLWan

torch.manual_seed(0)
vae = AutoencoderKLWan(base_dim=8).eval()
video = torch.rand(1, 3, 8, 16, 16) * 2 - 1
other = video.clone()
other[:, :, 5:] = -other[:, :, 5:]
with torch.no_grad():
    latents, others = (vae.encode(each).latent_dist.mode() for each in (video, other))
    decoded = vae.decode(latents).sample
same = torch.equal(latents, others)
print(f"latent frames: {latents.shape[2]}, decoded: {decoded.shape[2]} of {video.shape[2]}; "
      f"other last three frames, same latents: {same}")
raise SystemExit(not (latents.shape[2] == 2 and decoded.shape[2] == 5 and same))
P
