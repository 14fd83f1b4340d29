"""List the tensors of the official Wan2.1 files, from the official code built on the meta device.

    python scripts/official_keys.py PATH_TO_WAN2.1_CHECKOUT

Writes `tests/models/official/NAME.json`: the source and the shape of every tensor, where `*` stands
for each number of a list.
The modules come from https://github.com/Wan-Video/Wan2.1 (wan/modules), the sizes of the models
from wan/configs and, where these are silent (`in_dim`, `model_type`), from the published
`config.json` of each model.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import diffusers.models.modeling_utils  # noqa: F401 - before the stand-ins below, which it would look at
import torch

OUT = Path(__file__).resolve().parent.parent / "tests" / "models" / "official"
_14B = {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}
MODELS: dict[str, dict[str, Any]] = {
    "t2v-1.3b": {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30},
    "t2v-14b": _14B,
    "i2v-14b": {**_14B, "model_type": "i2v", "in_dim": 36},
    "flf2v-14b": {**_14B, "model_type": "flf2v", "in_dim": 36},
}
_VAE = {
    "dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": [],
    "temperal_downsample": [False, True, True], "dropout": 0.0,
}  # fmt: skip


def import_official(checkout: Path, name: str) -> Any:
    """Import one of the official modules, without the rest of the package and what that needs."""
    for package in ("wan", "wan.modules"):
        module = types.ModuleType(package)
        module.__path__ = [str(checkout / package.replace(".", "/"))]
        sys.modules.setdefault(package, module)
    for absent in ("torchvision", "torchvision.transforms", "einops", "wan.modules.tokenizers"):
        stand_in: Any = types.ModuleType(absent)
        stand_in.rearrange = stand_in.HuggingfaceTokenizer = None
        sys.modules.setdefault(absent, stand_in)
    torch.cuda.current_device = lambda: 0  # a default value in t5.py asks for it
    return importlib.import_module(f"wan.modules.{name}")


def modules(checkout: Path) -> dict[str, torch.nn.Module]:
    """Build every official module on meta, by the name of its list."""
    t5, vae, clip, model = (import_official(checkout, n) for n in ("t5", "vae", "clip", "model"))
    with torch.device("meta"):
        return {
            "umt5-xxl": t5.umt5_xxl(encoder_only=True, device="meta"),
            "vae": vae.WanVAE_(**_VAE),
            "clip": clip.clip_xlm_roberta_vit_h_14(device="meta"),
            **{name: model.WanModel(**fields) for name, fields in MODELS.items()},
        }


def folded(shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Write lists of alike tensors once, with `*` for the number; order is that of the numbers."""
    by_pattern: dict[str, list[list[int]]] = {}
    for name, shape in shapes.items():
        by_pattern.setdefault(re.sub(r"(blocks|transformer)\.\d+\.", r"\1.*.", name), []).append(
            shape
        )
    counts = {p: len(found) for p, found in by_pattern.items() if "*" in p}
    if any(shape != found[0] for found in by_pattern.values() for shape in found):
        raise SystemExit("a list's elements differ in their shapes")
    repeats = {p.partition(".*.")[0]: n for p, n in counts.items()}
    if any(repeats[p.partition(".*.")[0]] != n for p, n in counts.items()):
        raise SystemExit("a list's elements differ in their names")
    return {"repeats": repeats, "tensors": {p: found[0] for p, found in by_pattern.items()}}


def as_lines(found: dict[str, Any]) -> str:
    """Write it as JSON, a tensor a line."""
    tensors = ",\n".join(f"  {json.dumps(k)}: {v}" for k, v in found.pop("tensors").items())
    head = "".join(f" {json.dumps(k)}: {json.dumps(v)},\n" for k, v in found.items())
    return f'{{\n{head} "tensors": {{\n{tensors}\n }}\n}}\n'


def main() -> None:
    """Write a file a list."""
    checkout = Path(sys.argv[1]).resolve()
    asked = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    revision = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    OUT.mkdir(parents=True, exist_ok=True)
    for name, module in modules(checkout).items():
        shapes = {key: list(tensor.shape) for key, tensor in module.state_dict().items()}
        source = {"source": "github.com/Wan-Video/Wan2.1 wan/modules", "revision": revision}
        (OUT / f"{name}.json").write_text(as_lines({**source, **folded(shapes)}))
        print(name, len(shapes), sum(t.numel() for t in module.state_dict().values()))


if __name__ == "__main__":
    main()
