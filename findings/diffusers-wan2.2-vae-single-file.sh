#!/bin/bash
# diffusers 0.42.1 has the class for Wan2.2's autoencoder (AutoencoderKLWan, is_residual=True) and reads Wan's official single
# files, but not that one: the converter behind from_single_file knows Wan2.1's names only. Of Wan2.2's, where a list lies in
# a list, it names the resnets as if they were the list (no error there), and what is raised later speaks of a shape. The
# same weights under diffusers' own names load. Whoever has Wan2.2_VAE.pth has to rename it.
#
# Seen: "own names: loaded", "names that no module has: 94 of 196", "official names: ValueError ... expected shape". Exit 0
# while that is so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check diffusers==0.42.1 torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
cd "$work"
"$work/venv/bin/python" - 2>"$work/err" <<'P' || { tail -5 "$work/err"; exit 1; }
import re

import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from safetensors.torch import save_file

RESNET = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6",
          "conv_shortcut": "shortcut"}
ENDS = {"conv_in": "conv1", "norm_out": "head.0", "conv_out": "head.2", "mid_block.resnets.0": "middle.0",
        "mid_block.attentions.0": "middle.1", "mid_block.resnets.1": "middle.2"}


def official(name: str) -> str:
    """The name in Wan2.2's wan/modules/vae2_2.py; a block has two resnets on the way down, three on the way up."""
    if name.startswith(("quant_conv", "post_quant_conv")):
        return name.replace("post_quant_conv", "conv2").replace("quant_conv", "conv1")
    coder, rest = name.split(".", 1)
    for ours, theirs in ENDS.items():
        if rest.startswith(f"{ours}."):
            rest = rest.replace(ours, theirs, 1)
    rest = re.sub(r"(down|up)_blocks\.(\d+)\.resnets\.(\d+)\.", r"\1samples.\2.\1samples.\3.", rest)
    rest = re.sub(r"down_blocks\.(\d+)\.downsampler\.", r"downsamples.\1.downsamples.2.", rest)
    rest = re.sub(r"up_blocks\.(\d+)\.upsampler\.", r"upsamples.\1.upsamples.3.", rest)
    return f"{coder}." + re.sub("|".join(rf"\b{k}\b" for k in RESNET), lambda m: RESNET[m[0]], rest) \
        if "samples." in rest or "middle." in rest else f"{coder}.{rest}"


vae = AutoencoderKLWan(
    base_dim=8, decoder_base_dim=16, z_dim=48, is_residual=True, in_channels=12, out_channels=12, patch_size=2,
    scale_factor_spatial=16, latents_mean=[0.0] * 48, latents_std=[1.0] * 48,
)
vae.save_pretrained("own")
AutoencoderKLWan.from_pretrained("own")
print("own names: loaded")
tensors = {official(name): tensor.contiguous() for name, tensor in vae.state_dict().items()}
lost = [new for new in convert_wan_vae_to_diffusers({n: n for n in tensors}) if new not in vae.state_dict()]
print(f"names that no module has: {len(lost)} of {len(tensors)}, such as {lost[0]}")
save_file(tensors, "Wan2.2_VAE.safetensors")
try:
    AutoencoderKLWan.from_single_file("Wan2.2_VAE.safetensors", config="own")
except ValueError as error:
    print(f"official names: ValueError: {str(error)[:90]}")
    raise SystemExit("expected shape" not in str(error) or not lost) from None
raise SystemExit(1)
P
