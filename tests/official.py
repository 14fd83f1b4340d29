"""The tiny models as official folders of Wan: official names, files as torch saves them.

The names are written down here the other way round than in the package, by hand.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.jobs import TINY

T5 = "models_t5_umt5-xxl-enc-bf16.pth"
VAE, VAE_2_2 = "Wan2.1_VAE.pth", "Wan2.2_VAE.pth"
EXPERTS = {"transformer": "high_noise_model", "transformer_2": "low_noise_model"}
DIT_INDEX = "diffusion_pytorch_model.safetensors.index.json"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"


def shards(count: int) -> list[str]:
    """Name the files of a DiT that lies in so many."""
    numbers = range(1, count + 1)
    return [f"diffusion_pytorch_model-{n:05}-of-{count:05}.safetensors" for n in numbers]


DIT = shards(2)
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
    (r"condition_embedder\.image_embedder\.pos_embed", "img_emb.emb_pos"),
    (r"condition_embedder\.image_embedder\.norm1", "img_emb.proj.0"),
    (r"condition_embedder\.image_embedder\.ff\.net\.0\.proj", "img_emb.proj.1"),
    (r"condition_embedder\.image_embedder\.ff\.net\.2", "img_emb.proj.3"),
    (r"condition_embedder\.image_embedder\.norm2", "img_emb.proj.4"),
    (r"add_([kv])_proj", r"\1_img"),
    (r"norm_added_k", "norm_k_img"),
    (r"condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
    (r"condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
    (r"condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
    (r"condition_embedder\.time_proj", "time_projection.1"),
    (r"^(vace_blocks\.\d+)\.proj_in", r"\1.before_proj"),
    (r"^(vace_blocks\.\d+)\.proj_out", r"\1.after_proj"),
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
_CLIP = [
    (r"^embeddings\.class_embedding", "cls_embedding"),
    (r"^embeddings\.position_embedding\.weight", "pos_embedding"),
    (r"^embeddings\.", ""),
    (r"^pre_layrnorm", "pre_norm"),
    (r"^post_layernorm", "post_norm"),
    (r"^encoder\.layers\.", "transformer."),
    (r"layer_norm", "norm"),
    (r"self_attn\.out_proj", "attn.proj"),
    (r"mlp\.fc1", "mlp.0"),
    (r"mlp\.fc2", "mlp.2"),
]


def _renamed(name: str, table: list[tuple[str, str]]) -> str:
    for pattern, official in table:
        name = re.sub(pattern, official, name)
    return name


def _nested(name: str) -> str:
    """A block of Wan2.2's VAE is a list in a list: two or three blocks, and what scales."""
    pattern = (
        r"(\w+)\.(down|up)(?:samples|_blocks)\.(\d+)\.(?:resnets\.(\d+)|(?:down|up)sampler)\.(.+)"
    )
    if found := re.fullmatch(pattern, name):
        coder, way, block, number, rest = found.groups()
        place = number or (2 if way == "down" else 3)
        return f"{coder}.{way}samples.{block}.{way}samples.{place}.{rest}"
    return name


def _up_block(name: str) -> str:
    """An up block is four places of the official list: three blocks and an upsampler."""
    if found := re.match(r"decoder\.up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.(.+)", name):
        block, kind, number, rest = found.groups()
        place = 4 * int(block) + (3 if kind == "upsamplers" else int(number))
        return f"decoder.upsamples.{place}.{rest}"
    return name


def official_state(part: str, source: Path = TINY) -> OrderedDict[str, torch.Tensor]:
    """The tensors of a part of *source*, a folder of diffusers, under official names."""
    (file,) = (source / part).glob("*.safetensors")
    tensors = load_file(file)
    if part == "image_encoder":
        return _tower({name.removeprefix("vision_model."): t for name, t in tensors.items()})
    table = {"text_encoder": _TEXT, "vae": _VAE}.get(part, _DIT)
    of_block = _nested if any(".upsampler." in name for name in tensors) else _up_block
    return OrderedDict((of_block(_renamed(n, table)), t) for n, t in tensors.items())


def _tower(tensors: dict[str, torch.Tensor]) -> OrderedDict[str, torch.Tensor]:
    """CLIP's vision tower, query, key and value as one; what else the file has is not used."""
    found = {"log_scale": torch.zeros(())}
    for name, tensor in tensors.items():
        if query := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(.+)", name):
            three = [tensors[name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
            found[f"visual.transformer.{query[1]}.attn.to_qkv.{query[2]}"] = torch.cat(three)
        elif not re.search(r"[kv]_proj", name):
            alone = name.endswith(("class_embedding", "position_embedding.weight"))
            found[f"visual.{_renamed(name, _CLIP)}"] = (
                tensor.reshape(1, -1, tensor.shape[-1]) if alone else tensor
            )
    return OrderedDict(found)


def official_config(source: Path = TINY, part: str = "transformer") -> dict[str, object]:
    """What the official `config.json` says of a transformer of *source*."""
    config = json.loads((source / part / "config.json").read_text())
    heads, layers = config["num_attention_heads"], config.get("vace_layers")
    vace = {"vace_layers": layers, "vace_in_dim": config["vace_in_channels"]} if layers else {}
    return {
        "_class_name": "VaceWanModel" if layers else "WanModel", "_diffusers_version": "0.30.0",
        "model_type": _kind(config), **vace,
        "dim": heads * config["attention_head_dim"], "ffn_dim": config["ffn_dim"],
        "freq_dim": config["freq_dim"], "in_dim": config["in_channels"],
        "out_dim": config["out_channels"], "num_heads": heads,
        "num_layers": config["num_layers"], "eps": config["eps"], "text_len": 512,
    }  # fmt: skip


def _kind(config: Mapping[str, object]) -> str:
    if config.get("vace_layers"):
        return "vace"
    if config.get("pos_embed_seq_len"):
        return "flf2v"
    if config["in_channels"] != config["out_channels"]:
        return "i2v"
    return "ti2v" if config["in_channels"] == 48 else "t2v"


def write_official(folder: Path, source: Path = TINY) -> Path:
    """Write the folder: `.pth` files, the DiT in two shards, the tokenizer where it belongs.

    Of two experts each has a folder, one in two shards and one in three.
    """
    folder.mkdir(parents=True)
    torch.save(official_state("text_encoder", source), folder / T5)
    vae = official_state("vae", source)
    is_2_2 = vae["conv2.bias"].shape == (48,)
    torch.save(vae, folder / (VAE_2_2 if is_2_2 else VAE))
    if (source / "image_encoder").is_dir():
        torch.save(official_state("image_encoder", source), folder / CLIP)
    if (source / "transformer_2").is_dir():
        for count, (part, name) in enumerate(EXPERTS.items(), start=2):
            write_dit(folder / name, source, part, shards(count))
    else:
        write_dit(folder, source)
    shutil.copytree(source / "tokenizer", folder / "google" / "umt5-xxl")
    return folder


def write_dit(
    folder: Path, source: Path = TINY, part: str = "transformer", files: Sequence[str] = DIT
) -> None:
    """Write a transformer of *source* into *files*, with its index and its `config.json`."""
    folder.mkdir(exist_ok=True)
    dit = official_state(part, source)
    names, weight_map = list(dit), {}
    first = min(100, len(names) // 2)
    cuts = [0, *range(first, first + len(files) - 1), len(names)]
    for file, (start, end) in zip(files, pairwise(cuts), strict=True):
        save_file({name: dit[name] for name in names[start:end]}, folder / file)
        weight_map |= dict.fromkeys(names[start:end], file)
    (folder / DIT_INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(official_config(source, part)))
