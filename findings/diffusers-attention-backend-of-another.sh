#!/bin/bash
# diffusers 0.42.1: set_attention_backend on one model also changes what every other model of the process attends with that
# has chosen nothing, those built later too; reset_attention_backend on the first gives it back its own default and leaves the
# others changed. A second Wan transformer (Wan2.2 has two) so goes on in the slow "math" kernel, in silence.
#
# Seen of a transformer that nobody touches: "before: flash, after another chose math: math, after it was reset: math".
# Exit 0 while that is so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check diffusers==0.42.1 torch==2.13.0 transformers==5.23.0
"$work/venv/bin/python" - 2>"$work/err" <<'P' || { tail -5 "$work/err"; exit 1; }
import torch
from diffusers import WanTransformer3DModel
from torch.utils._python_dispatch import TorchDispatchMode


def transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, text_dim=16, freq_dim=16, ffn_dim=32, num_layers=1
    ).eval()


class Ops(TorchDispatchMode):
    """Notes the names of the operations that run."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def kernel(model: WanTransformer3DModel) -> str:
    """Which kernel a forward attends with."""
    ops = Ops()
    ops.names = set()
    with torch.no_grad(), ops:
        model(torch.ones(1, 16, 1, 4, 4), torch.ones(1), torch.ones(1, 3, 16))
    return "flash" if any("flash_attention" in name for name in ops.names) else "math"


chooser, other = transformer(), transformer()
seen = [kernel(other)]
chooser.set_attention_backend("_native_math")
seen.append(kernel(other))
chooser.reset_attention_backend()
seen.append(kernel(other))
print(f"before: {seen[0]}, after another chose math: {seen[1]}, after it was reset: {seen[2]}")
raise SystemExit(seen != ["flash", "math", "math"])
P
