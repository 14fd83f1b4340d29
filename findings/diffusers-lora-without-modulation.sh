#!/bin/bash
# diffusers 0.42.1 with peft 0.21.2: LoRAs of Wan that were extracted from a distilled model carry, beside the low ranks,
# plain differences: of the modulation of blocks and head (diff_m), of norms and of the patch embedding (diff, diff_b).
# load_lora_weights leaves them out. It says so at the log levels info and debug only, and the default level is warning: the
# file loads, the picture is that of a share of it.
#
# Seen: "forward with the differences and without: the same; logged at the default level: nothing". Exit 0 while that is so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    diffusers==0.42.1 torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 peft==0.21.2
cd "$work"
"$work/venv/bin/python" - 2>"$work/err" <<'P' || { tail -5 "$work/err"; exit 1; }
import logging

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from safetensors.torch import save_file

DIM, FFN, RANK = 24, 32, 4
said: list[str] = []


class Notes(logging.Handler):
    """Keeps what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        said.append(record.getMessage())


logging.getLogger("diffusers").addHandler(Notes())
sizes = {f"{kind}_attn.{name}": (DIM, DIM) for kind in ("self", "cross") for name in "qkvo"}
sizes |= {"ffn.0": (DIM, FFN), "ffn.2": (FFN, DIM)}
generator = torch.Generator().manual_seed(1)
ranks = {}
for name, (given, made) in sizes.items():
    ranks[f"diffusion_model.blocks.0.{name}.lora_down.weight"] = torch.randn(RANK, given, generator=generator)
    ranks[f"diffusion_model.blocks.0.{name}.lora_up.weight"] = torch.randn(made, RANK, generator=generator)
differences = {
    "blocks.0.diff_m": (1, 6, DIM), "head.diff_m": (1, 2, DIM), "blocks.0.norm3.diff": (DIM,), "blocks.0.norm3.diff_b": (DIM,),
    "patch_embedding.diff": (DIM, 16, 1, 2, 2), "patch_embedding.diff_b": (DIM,),
}
save_file(ranks, "ranks.safetensors")
save_file(ranks | {f"diffusion_model.{n}": torch.ones(size) for n, size in differences.items()}, "all.safetensors")


def forward(lora: str | None) -> torch.Tensor:
    """What the transformer makes with a LoRA of a file."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, text_dim=16, freq_dim=16, ffn_dim=FFN, num_layers=1
    ).eval()
    pipeline = WanPipeline(
        tokenizer=None, text_encoder=None, vae=AutoencoderKLWan(base_dim=8), scheduler=UniPCMultistepScheduler(),
        transformer=transformer,
    )
    if lora:
        said.clear()
        pipeline.load_lora_weights(lora)
    with torch.no_grad():
        return transformer(torch.ones(1, 16, 1, 4, 4), torch.ones(1), torch.ones(1, 3, 16)).sample


plain, with_ranks, with_all = forward(None), forward("ranks.safetensors"), forward("all.safetensors")
assert not torch.equal(plain, with_ranks)
same = torch.equal(with_ranks, with_all)
print(f"forward with the differences and without: {'the same' if same else 'other'}; "
      f"logged at the default level: {'; '.join(said) or 'nothing'}")
raise SystemExit(not same or any("diff" in text for text in said))
P
