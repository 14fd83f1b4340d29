"""List the tensors of the official files of Wan, from the official code built on the meta device.

    python scripts/official_keys.py PATH_TO_WAN2.1_CHECKOUT PATH_TO_WAN2.2_CHECKOUT

Writes `tests/models/official/NAME.json`: the source and the shape of every tensor, where `*` stands
for each number of a list.
The modules come from https://github.com/Wan-Video/Wan2.1 and Wan2.2 (wan/modules), the sizes of the
models from wan/configs and, where these are silent (`in_dim`, `vace_layers`), from the published
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
_1_3B = {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}
MODELS: dict[str, dict[str, Any]] = {
    "t2v-1.3b": _1_3B,
    "t2v-14b": _14B,
    "i2v-14b": {**_14B, "model_type": "i2v", "in_dim": 36},
    "flf2v-14b": {**_14B, "model_type": "flf2v", "in_dim": 36},
}
VACE: dict[str, dict[str, Any]] = {
    "vace-1.3b": {**_1_3B, "vace_layers": list(range(0, 30, 2)), "vace_in_dim": 96},
    "vace-14b": {**_14B, "vace_layers": list(range(0, 40, 5)), "vace_in_dim": 96},
}
WAN2_2: dict[str, dict[str, Any]] = {
    "t2v-a14b": _14B,
    "i2v-a14b": {**_14B, "model_type": "i2v", "in_dim": 36},
    "ti2v-5b": {
        "dim": 3072, "ffn_dim": 14336, "num_heads": 24, "num_layers": 30, "model_type": "ti2v",
        "in_dim": 48, "out_dim": 48,
    },
}  # fmt: skip
_VAE = {
    "dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": [],
    "temperal_downsample": [False, True, True], "dropout": 0.0,
}  # fmt: skip


def import_official(checkout: Path, name: str) -> Any:
    """Import one of the official modules, without the rest of the package and what that needs."""
    for loaded in [known for known in sys.modules if known.partition(".")[0] == "wan"]:
        del sys.modules[loaded]  # may be another checkout's
    for package in ("wan", "wan.modules"):
        module = types.ModuleType(package)
        module.__path__ = [str(checkout / package.replace(".", "/"))]
        sys.modules[package] = module
    for absent in ("torchvision", "torchvision.transforms", "einops", "wan.modules.tokenizers"):
        stand_in: Any = types.ModuleType(absent)
        stand_in.rearrange = stand_in.HuggingfaceTokenizer = None
        sys.modules.setdefault(absent, stand_in)
    torch.cuda.current_device = lambda: 0  # a default value in t5.py asks for it
    return importlib.import_module(f"wan.modules.{name}")


def of_2_1(checkout: Path) -> dict[str, torch.nn.Module]:
    """Build every module of Wan2.1 on meta, by the name of its list."""
    t5, vae, clip, model, vace = (
        import_official(checkout, name) for name in ("t5", "vae", "clip", "model", "vace_model")
    )
    with torch.device("meta"):
        return {
            "umt5-xxl": t5.umt5_xxl(encoder_only=True, device="meta"),
            "vae": vae.WanVAE_(**_VAE),
            "clip": clip.clip_xlm_roberta_vit_h_14(device="meta"),
            **{name: model.WanModel(**fields) for name, fields in MODELS.items()},
            **{name: vace.VaceWanModel(**fields) for name, fields in VACE.items()},
        }


def of_2_2(checkout: Path) -> dict[str, torch.nn.Module]:
    """Build what is Wan2.2's own on meta."""
    vae, model = (import_official(checkout, name) for name in ("vae2_2", "model"))
    with torch.device("meta"):
        return {
            "vae-2.2": vae.WanVAE_(**{**_VAE, "dim": 160, "z_dim": 48}),
            **{name: model.WanModel(**fields) for name, fields in WAN2_2.items()},
        }


def folded(shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Write lists of alike tensors once, with `*` for the number; order is that of the numbers.

    What not every element has is written with its own number.
    """
    by_pattern: dict[str, dict[str, list[int]]] = {}
    for name, shape in shapes.items():
        pattern = re.sub(r"(blocks|transformer)\.\d+\.", r"\1.*.", name)
        by_pattern.setdefault(pattern, {})[name] = shape
    repeats: dict[str, int] = {}
    for pattern, alike in by_pattern.items():
        if "*" in pattern:
            stem = pattern.partition(".*.")[0]
            repeats[stem] = max(repeats.get(stem, 0), len(alike))
    tensors: dict[str, list[int]] = {}
    for pattern, alike in by_pattern.items():
        if len(alike) < repeats.get(pattern.partition(".*.")[0], 0):
            tensors |= alike
            continue
        first, *others = alike.values()
        if any(shape != first for shape in others):
            raise SystemExit("a list's elements differ in their shapes")
        tensors[pattern] = first
    return {"repeats": repeats, "tensors": tensors}


def as_lines(found: dict[str, Any]) -> str:
    """Write it as JSON, a tensor a line."""
    tensors = ",\n".join(f"  {json.dumps(k)}: {v}" for k, v in found.pop("tensors").items())
    head = "".join(f" {json.dumps(k)}: {json.dumps(v)},\n" for k, v in found.items())
    return f'{{\n{head} "tensors": {{\n{tensors}\n }}\n}}\n'


def main() -> None:
    """Write a file a list."""
    OUT.mkdir(parents=True, exist_ok=True)
    for place, repository, build in zip(
        sys.argv[1:], ("Wan2.1", "Wan2.2"), (of_2_1, of_2_2), strict=True
    ):
        checkout = Path(place).resolve()
        asked = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        revision = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        source = {"source": f"github.com/Wan-Video/{repository} wan/modules", "revision": revision}
        for name, module in build(checkout).items():
            shapes = {key: list(tensor.shape) for key, tensor in module.state_dict().items()}
            (OUT / f"{name}.json").write_text(as_lines({**source, **folded(shapes)}))
            print(name, len(shapes), sum(t.numel() for t in module.state_dict().values()))


if __name__ == "__main__":
    main()
