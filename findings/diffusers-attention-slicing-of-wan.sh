#!/bin/bash
# diffusers 0.42.1: enable_attention_slicing() of a WanPipeline, there to take less memory, does nothing: it
# goes to the pipeline's models that have set_attention_slice, and Wan's transformer has none. Nothing says so. Its attention
# layers do have the method (by a mixin they share with other models), but it asks for another one that nobody has.
#
# Seen: "after enable_attention_slicing: same processors, same operations", "of a layer itself: AttributeError ...
# _get_compatible_processor". Exit 0 while that is so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check diffusers==0.42.1 torch==2.13.0 transformers==5.23.0
"$work/venv/bin/python" - 2>"$work/err" <<'P' || { tail -5 "$work/err"; exit 1; }
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from torch.utils._python_dispatch import TorchDispatchMode


class Ops(TorchDispatchMode):
    """Notes the operations that run and the shapes of what they make."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.seen.append((func.name(), tuple(made.shape) if isinstance(made, torch.Tensor) else None))
        return made


transformer = WanTransformer3DModel(
    num_attention_heads=4, attention_head_dim=12, text_dim=16, freq_dim=16, ffn_dim=32, num_layers=1
).eval()
pipeline = WanPipeline(
    tokenizer=None, text_encoder=None, vae=AutoencoderKLWan(base_dim=8), scheduler=UniPCMultistepScheduler(),
    transformer=transformer,
)


def forward() -> tuple[list[str], list[object]]:
    """The processors, and what a forward does."""
    ops = Ops()
    ops.seen = []
    with torch.no_grad(), ops:
        transformer(torch.ones(1, 16, 1, 8, 8), torch.ones(1), torch.ones(1, 3, 16))
    return [f"{name} {type(p).__name__}" for name, p in transformer.attn_processors.items()], ops.seen


before = forward()
pipeline.enable_attention_slicing(1)
after = forward()
words = ["same" if old == new else "other" for old, new in zip(before, after, strict=True)]
print(f"after enable_attention_slicing: {words[0]} processors, {words[1]} operations")
try:
    transformer.blocks[0].attn1.set_attention_slice(1)
except AttributeError as error:
    print(f"of a layer itself: AttributeError: {error}")
    raise SystemExit(words != ["same", "same"] or "_get_compatible_processor" not in str(error)) from None
raise SystemExit(1)
P
