"""The bundled tiny model as an official Wan2.1 folder: official names, files as torch saves them.

The names are written down here the other way round than in the package, by hand.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.jobs import TINY

T5 = "models_t5_umt5-xxl-enc-bf16.pth"
VAE = "Wan2.1_VAE.pth"
DIT = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
CONFIG = {
    "_class_name": "WanModel", "_diffusers_version": "0.30.0", "model_type": "t2v", "dim": 128,
    "ffn_dim": 256, "freq_dim": 128, "in_dim": 16, "out_dim": 16, "num_heads": 4, "num_layers": 8,
    "eps": 1e-06, "text_len": 512,
}  # fmt: skip

_TEXT = [
    (r"shared", "token_embedding"),
    (r"encoder\.final_layer_norm", "norm"),
    (r"encoder\.block\.(\d+)\.layer\.0\.layer_norm", r"blocks.\1.norm1"),
    (r"encoder\.block\.(\d+)\.layer\.1\.layer_norm", r"blocks.\1.norm2"),
    (
        r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias",
        r"blocks.\1.pos_embedding.embedding",
    ),
    (r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.([qkvo])", r"blocks.\1.attn.\2"),
    (r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0", r"blocks.\1.ffn.gate.0"),
    (r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_1", r"blocks.\1.ffn.fc1"),
    (r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wo", r"blocks.\1.ffn.fc2"),
]
_DIT = [
    (r"condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
    (r"condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
    (r"condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
    (r"condition_embedder\.time_proj", "time_projection.1"),
    (r"^scale_shift_table", "head.modulation"),
    (r"^proj_out", "head.head"),
    (r"scale_shift_table", "modulation"),
    (r"attn1\.", "self_attn."),
    (r"attn2\.", "cross_attn."),
    (r"to_out\.0", "o"),
    (r"to_([qkv])", r"\1"),
    (r"ffn\.net\.0\.proj", "ffn.0"),
    (r"ffn\.net\.2", "ffn.2"),
    (r"(blocks\.\d+)\.norm2\.", r"\1.norm3."),  # the official block calls its norms 1, 3, 2
]
_VAE = [
    (r"^quant_conv", "conv1"),
    (r"^post_quant_conv", "conv2"),
    (r"conv_in", "conv1"),
    (r"norm_out", "head.0"),
    (r"conv_out", "head.2"),
    (r"mid_block\.resnets\.0", "middle.0"),
    (r"mid_block\.attentions\.0", "middle.1"),
    (r"mid_block\.resnets\.1", "middle.2"),
    (r"down_blocks\.", "downsamples."),
    (r"(middle\.[02]|samples\.\d+|resnets\.\d+)\.norm1", r"\1.residual.0"),
    (r"(middle\.[02]|samples\.\d+|resnets\.\d+)\.conv1", r"\1.residual.2"),
    (r"(middle\.[02]|samples\.\d+|resnets\.\d+)\.norm2", r"\1.residual.3"),
    (r"(middle\.[02]|samples\.\d+|resnets\.\d+)\.conv2", r"\1.residual.6"),
    (r"conv_shortcut", "shortcut"),
]


def _renamed(name: str, table: list[tuple[str, str]]) -> str:
    for pattern, official in table:
        name = re.sub(pattern, official, name)
    return name


def _up_block(name: str) -> str:
    """An up block is four places of the official list: three blocks and an upsampler."""
    if found := re.match(r"decoder\.up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.(.+)", name):
        block, kind, number, rest = found.groups()
        place = 4 * int(block) + (3 if kind == "upsamplers" else int(number))
        return f"decoder.upsamples.{place}.{rest}"
    return name


def official_state(part: str) -> OrderedDict[str, torch.Tensor]:
    """The tiny model's tensors of a part under official names."""
    (file,) = (TINY / part).glob("*.safetensors")
    table = {"text_encoder": _TEXT, "transformer": _DIT, "vae": _VAE}[part]
    return OrderedDict((_up_block(_renamed(n, table)), t) for n, t in load_file(file).items())


def write_official(folder: Path) -> Path:
    """Write the folder: `.pth` files, the DiT in two shards, the tokenizer where it belongs."""
    folder.mkdir(parents=True)
    torch.save(official_state("text_encoder"), folder / T5)
    torch.save(official_state("vae"), folder / VAE)
    dit = official_state("transformer")
    names, weight_map = list(dit), {}
    for file, part in zip(DIT, (names[:100], names[100:]), strict=True):
        save_file({name: dit[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    shutil.copytree(TINY / "tokenizer", folder / "google" / "umt5-xxl")
    return folder
