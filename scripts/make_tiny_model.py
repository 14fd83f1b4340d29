"""Make the bundled tiny model: the full models' own classes at a small size, weights from a seed.

Usage: python scripts/make_tiny_model.py [FOLDER]
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import UMT5Config, UMT5EncoderModel

from wanflow.graph.configs import known_config
from wanflow.models.build import allowed

NAME = "wan-tiny"
SEED = 20261123
SHAPES = (("circle", "圆形"), ("square", "正方形"), ("triangle", "三角形"))
COLOURS = (
    ("red", "红色"), ("green", "绿色"), ("blue", "蓝色"), ("yellow", "黄色"),
    ("purple", "紫色"), ("orange", "橙色"), ("white", "白色"), ("black", "黑色"),
)  # fmt: skip
SIZES = (("small", "小"), ("large", "大"))
MOTIONS = (
    ("moves left", "向左移动"), ("moves right", "向右移动"), ("moves up", "向上移动"),
    ("moves down", "向下移动"), ("moves diagonally", "沿对角线移动"), ("stays still", "静止不动"),
    ("grows", "变大"), ("shrinks", "缩小"),
)  # fmt: skip


def captions() -> list[str]:
    """Sentences of the small world in English and Chinese: what the vocabulary is made for."""
    made = []
    worlds = itertools.product(SIZES, COLOURS, SHAPES, MOTIONS, COLOURS)
    for world in worlds:
        (size, xsize), (colour, xcolour), (shape, xshape), (motion, xmotion), (back, xback) = world
        made.append(f"a {size} {colour} {shape} {motion} on a {back} background")
        made.append(f"A {colour} {shape}, {size}, that {motion}. The background is {back}.")
        made.append(f"{xback}背景上一个{xsize}的{xcolour}{xshape}{xmotion}")
        made.append(f"一个{xcolour}的{xsize}{xshape}在{xback}的背景上{xmotion}。")
    return made


def make_tokenizer(folder: Path, vocabulary: int) -> None:
    """Train a byte-level BPE: every text has tokens, the world's words have short ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions(), trainer)
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", end)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": 512,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def main(folder: Path) -> None:
    """Write the whole diffusers folder."""
    torch.manual_seed(SEED)
    parts = ("text_encoder", "transformer", "vae")
    fields = {part: allowed(part, known_config(NAME, part), part) for part in parts}
    text = UMT5EncoderModel(UMT5Config(**fields["text_encoder"]))
    transformer = WanTransformer3DModel(**fields["transformer"])
    vae = AutoencoderKLWan(**fields["vae"])
    text.save_pretrained(folder / "text_encoder")
    transformer.save_pretrained(folder / "transformer")
    vae.save_pretrained(folder / "vae")
    sampler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    sampler.save_pretrained(folder / "scheduler")
    make_tokenizer(folder / "tokenizer", int(fields["text_encoder"]["vocab_size"]))
    index = {
        "_class_name": "WanPipeline",
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    total = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    print(f"Wrote {folder}: {total} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "wanflow/bundled/wan-tiny"))
