#!/bin/bash
# diffusers 0.42.1, WanPipeline with two transformers (Wan2.2 A14B): guidance_scale is the first one's, guidance_scale_2 the
# second one's, but whether there is guidance at all is asked of the first alone. With 1 and 3, as for a first transformer
# that was distilled and a second that was not, nothing is guided: the second goes unguided, its 3 and the negative prompt
# are not used, and nothing says so. The other way round each step is made twice, those that are not guided too.
#
# Seen of 6 steps, 2 of them the first's: "1 and 3: 2 and 4 forwards; 3 and 1: 4 and 8 forwards; 1 and 3, 1 and 9: the same
# latents". Exit 0 while that is so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check diffusers==0.42.1 torch==2.13.0 transformers==5.23.0
"$work/venv/bin/python" - 2>"$work/err" <<'P' || { tail -5 "$work/err"; exit 1; }
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel


def transformer(seed: int) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    return WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, text_dim=16, freq_dim=16, ffn_dim=32, num_layers=1
    ).eval()


pipeline = WanPipeline(
    tokenizer=None, text_encoder=None, vae=AutoencoderKLWan(base_dim=8).eval(), transformer=transformer(1),
    transformer_2=transformer(2), boundary_ratio=0.875,
    scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
)
pipeline.set_progress_bar_config(disable=True)
forwards = [0, 0]
for which, model in enumerate((pipeline.transformer, pipeline.transformer_2)):
    model.register_forward_hook(lambda *_, which=which: forwards.__setitem__(which, forwards[which] + 1))
generator = torch.Generator().manual_seed(0)
prompts = {name: torch.randn(1, 8, 16, generator=generator) for name in ("prompt_embeds", "negative_prompt_embeds")}


def run(first: float, second: float) -> tuple[list[int], torch.Tensor]:
    """How often each transformer was asked, and the latents."""
    forwards[:] = [0, 0]
    latents = pipeline(
        **prompts, height=32, width=32, num_frames=5, num_inference_steps=6, output_type="latent", guidance_scale=first,
        guidance_scale_2=second, generator=torch.Generator().manual_seed(0),
    ).frames
    return list(forwards), latents


(one_three, three), (three_one, _), (_, nine) = run(1, 3), run(3, 1), run(1, 9)
same = torch.equal(three, nine)
print(f"1 and 3: {one_three[0]} and {one_three[1]} forwards; 3 and 1: {three_one[0]} and {three_one[1]} forwards; "
      f"1 and 3, 1 and 9: {'the same' if same else 'other'} latents")
raise SystemExit(not (one_three == [2, 4] and three_one == [4, 8] and same))
P
