"""What is changed: small sound files of each kind, by the writers that the tests have."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from wanflow.files.folders import PACKAGE

Seeds = dict[str, bytes]
_ROOT = PACKAGE.parent
REFUSED = ("official-vace.json",)  # beside weights without VACE's blocks, once it is read
_MOST_BYTES = 64 << 10  # of one tensor of a seed


def _texts(folder: Path, pattern: str) -> Seeds:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


def graphs(_folder: Path) -> Seeds:
    """The shipped ones."""
    return _texts(_ROOT / "graphs", "*.yaml")


def traces(folder: Path) -> Seeds:
    """A run of the tiny model, whole, and cut behind its footprints, which replay wants."""
    from wanflow.session import Request, run

    out = folder / "run"
    if not (out / "trace.msgpack").is_file():
        inputs: dict[str, str | int | float] = {"frames": 5, "steps": 2, "prompt": "a red circle"}
        run(
            Request("t2v-tiny", inputs, vram="6MiB", device="cpu", probe=False), out=out, force=True
        )
    data = (out / "trace.msgpack").read_bytes()
    return {"whole.msgpack": data, "cut.msgpack": data[: len(data) * 4 // 5]}


def _small() -> dict[str, torch.Tensor]:
    """Some tensors of the tiny transformer with official names: enough for every kind of layer."""
    from tests.official import official_state

    state = official_state("transformer")
    few = {
        n: t for n, t in state.items() if not n.startswith("blocks.") or n.startswith("blocks.0.")
    }
    return {n: t for n, t in few.items() if t.nbytes <= _MOST_BYTES}


def safetensors(folder: Path) -> Seeds:
    """A model by diffusers' names; official names in formats that pack."""
    from tests.loras import weights
    from tests.packed_files import FORMATS

    weights("t2v", folder)
    for kind in ("comfy-fp8", "musubi-row", "lightx2v-int8", "quanto"):
        FORMATS[kind](_small(), folder / f"{kind}.safetensors")
    return _texts(folder, "*.safetensors")


def pth(folder: Path) -> Seeds:
    """Official names, as torch saves them: plain, packed, half."""
    from tests.packed_files import lightx2v

    torch.save(_small(), folder / "plain.pth")
    torch.save({name: tensor.half() for name, tensor in _small().items()}, folder / "half.pth")
    lightx2v(_small(), folder / "int8.pth")
    return _texts(folder, "*.pth")


def gguf(folder: Path) -> Seeds:
    """By gguf-py."""
    from tests.packed_files import gguf_file

    for kind in ("Q4_0", "Q8_0"):
        gguf_file(_small(), folder / f"{kind}.gguf", kind)
    return _texts(folder, "*.gguf")


def loras(folder: Path) -> Seeds:
    """Three namings, with alphas, differences and DoRA's scale."""
    from tests.loras import random, save

    q, ffn = "blocks.0.self_attn.q", "blocks.1.ffn.0"
    down, up, alpha = random(4, 24), random(24, 4), torch.tensor(2.0)
    save(
        {
            f"diffusion_model.{q}.lora_A.weight": down, f"diffusion_model.{q}.lora_B.weight": up,
            f"diffusion_model.{q}.alpha": alpha,
            f"diffusion_model.{ffn}.lora_A.weight": down.clone(),
            f"diffusion_model.{ffn}.lora_B.weight": random(64, 4),
            f"diffusion_model.{q}.diff_b": random(24),
        },
        folder / "comfy.safetensors",
    )  # fmt: skip
    peft = "transformer.blocks.0.attn1.to_q"
    save(
        {
            f"{peft}.lora_A.weight": down,
            f"{peft}.lora_B.weight": up,
            f"{peft}.lora_magnitude_vector": random(24),
        },
        folder / "diffusers.safetensors",
        lora_adapter_metadata=json.dumps({"transformer.r": 4, "transformer.lora_alpha": 8}),
    )
    kohya = "lora_unet_blocks_0_self_attn_q"
    save(
        {f"{kohya}.lora_down.weight": down, f"{kohya}.lora_up.weight": up, f"{kohya}.alpha": alpha},
        folder / "kohya.safetensors",
    )
    return _texts(folder, "*.safetensors")


def configs(_folder: Path) -> Seeds:
    """The tiny model's, a part each, and what the official code says of two kinds of it."""
    from tests.official import official_config

    tiny = PACKAGE / "bundled" / "wan-tiny"
    found = {
        f"{path.parent.name}.json": path.read_bytes() for path in sorted(tiny.glob("*/config.json"))
    }
    plain = official_config()
    vace = {**plain, "model_type": "vace", "vace_layers": [0, 2], "vace_in_dim": 96}
    for name, config in {"official": plain, "official-vace": vace}.items():
        found[f"{name}.json"] = json.dumps(config).encode()
    return found


def tokenizers(_folder: Path) -> Seeds:
    """The tiny model's, and one of the kind that UMT5 has."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    path = PACKAGE / "bundled" / "wan-tiny" / "tokenizer" / "tokenizer.json"
    words = ["<pad>", "</s>", "<unk>", "\u2581a", "\u2581red", "kite", *"abcdeikrt\u2581"]
    made = Tokenizer(models.Unigram([(word, -float(n)) for n, word in enumerate(words)], 2))
    made.normalizer = normalizers.Sequence(
        [normalizers.Replace("\n", " "), normalizers.Strip(), normalizers.NFC()]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    return {path.name: path.read_bytes(), "unigram.json": made.to_str().encode()}


def pictures(_folder: Path) -> Seeds:
    """Every format that is read, with EXIF, a profile, transparency, 16 bits, an animation."""
    from PIL import Image, ImageCms

    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (30, 40, 4), dtype=np.uint8)
    colour, clear = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels)
    deep = Image.fromarray(rng.integers(0, 65536, (30, 40), dtype=np.uint16))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    wanted: Mapping[str, tuple[Image.Image, dict[str, object]]] = {
        "a.jpg": (colour, {"exif": exif, "icc_profile": profile}),
        "b.png": (clear, {"icc_profile": profile}),
        "c.png": (deep, {}), "d.webp": (clear, {}), "e.bmp": (colour, {}), "f.ppm": (colour, {}),
        "g.gif": (colour.convert("P"), {"save_all": True, "append_images": [colour.convert("P")]}),
        "h.tif": (colour, {"compression": "tiff_lzw"}), "i.tif": (deep, {}),
        "j.png": (clear, {"save_all": True, "append_images": [clear]}),
    }  # fmt: skip
    formats = {"jpg": "JPEG", "tif": "TIFF"}
    seeds = {}
    for name, (image, options) in wanted.items():
        file = io.BytesIO()
        end = name[2:]
        image.save(file, formats.get(end, end.upper()), **options)
        seeds[name] = file.getvalue()
    return seeds


def videos(folder: Path) -> Seeds:
    """H.264 plain, turned and of uneven times, MPEG-4 in Matroska, a GIF."""
    from tests.filmed import film

    film(folder / "plain.mp4", 6, (32, 32))
    film(folder / "turned.mp4", 6, (32, 48), turn=90)
    film(folder / "uneven.mkv", 6, (32, 32), lasts=(40, 80))
    film(folder / "old.mkv", 6, (32, 32), Fraction(30000, 1001), codec="mpeg4")
    film(folder / "few.gif", 4, (24, 24), 10, codec="gif")
    return _texts(folder, "*")


def machines(_folder: Path) -> Seeds:
    """A card with datasheet figures, and a CPU that runs have taught."""
    from wanflow.scheduler.machine.datasheets import named_machine
    from wanflow.scheduler.machine.machine_json import as_data

    names = {"card.json": "rtx4090", "cpu.json": "cpu"}
    return {file: json.dumps(as_data(named_machine(name))).encode() for file, name in names.items()}


def rows(_folder: Path) -> Seeds:
    """Each kind, with quotes, empty lines and letters that are none of ASCII."""
    table = (
        'prompt,seed,size\na kite,3,64*48\n"a ""red"" kite,\nin two lines",4,\n\n\u5b57,5,64*64\n'
    )
    lines = [
        {"prompt": "a kite", "seed": 3},
        {"prompt": "\u5b57", "frames": 9, "guidance": 4.5},
        {},
    ]
    return {
        "a.txt": "a kite\n\n  a red kite \n\u5b57\n".encode(), "b.csv": table.encode(),
        "c.jsonl": "\n".join(map(json.dumps, lines)).encode(),
    }  # fmt: skip


def scenarios(_folder: Path) -> Seeds:
    """Those of the tests."""
    return _texts(_ROOT / "tests" / "configs", "*.yaml")


def previews(_folder: Path) -> Seeds:
    """Those that come with wanflow."""
    return _texts(PACKAGE / "stages" / "previews", "*.json")


def seeds_of(kind: str, folder: Path) -> Seeds:
    """The seeds of a kind: made in *folder* once, read from there later."""
    kept = folder / kind
    if not kept.is_dir():
        part = folder / f"{kind}.part"
        made = _emptied(folder / f"{kind}.made")
        for name, data in SEEDS[kind](made).items():
            part.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(data)
        part.rename(kept)
        shutil.rmtree(made)
    return {path.name: path.read_bytes() for path in sorted(kept.iterdir())}


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


SEEDS: Mapping[str, Callable[[Path], Seeds]] = {
    "graph": graphs, "trace": traces, "safetensors": safetensors, "pth": pth, "gguf": gguf,
    "lora": loras, "config": configs, "tokenizer": tokenizers, "picture": pictures,
    "video": videos, "machine": machines, "rows": rows, "scenarios": scenarios, "preview": previews,
}  # fmt: skip
