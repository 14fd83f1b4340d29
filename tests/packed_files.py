"""The tiny transformer in each format that people have: by the format's own writer, or its page."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from tests.official import official_state

Tensors = dict[str, torch.Tensor]
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def is_packed(name: str, tensor: torch.Tensor) -> bool:
    """The ten matrices of each block, which all makers pack."""
    inside = re.search(r"\.(self_attn|cross_attn|ffn)\.|\.attn_[qkvo]\.|\.ffn_(gate|up|down)", name)
    return bool(inside) and name.endswith(".weight") and tensor.dim() == 2


def _each(
    tensors: Mapping[str, torch.Tensor], pack: Callable[[str, torch.Tensor], Tensors]
) -> Tensors:
    written: Tensors = {}
    for name, tensor in tensors.items():
        written |= (
            pack(name.removesuffix(".weight"), tensor)
            if is_packed(name, tensor)
            else {name: tensor}
        )
    return written


def _scaled(weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    number = weight / scale
    return number.round().to(dtype) if dtype == torch.int8 else number.to(dtype)


def _rows(weight: torch.Tensor, most: float) -> torch.Tensor:
    return weight.abs().amax(1, keepdim=True).clamp(min=1e-5) / most


def comfy_old(tensors: Tensors, path: Path, dtype: torch.dtype = E4M3) -> None:
    """`scale_weight`, and the mark; of what comes in too."""

    def pack(name: str, weight: torch.Tensor) -> Tensors:
        scale = weight.abs().max() / torch.finfo(dtype).max
        return {
            f"{name}.weight": _scaled(weight, scale, dtype), f"{name}.scale_weight": scale,
            f"{name}.scale_input": torch.ones(()),
        }  # fmt: skip

    save_file(_each(tensors, pack) | {"scaled_fp8": torch.zeros(2, dtype=E4M3)}, path)


def _note(text: object) -> torch.Tensor:
    return torch.frombuffer(bytearray(json.dumps(text).encode()), dtype=torch.uint8)


def comfy_fp8(tensors: Tensors, path: Path) -> None:
    """By comfy-kitchen: a scale of the tensor, what it is in the header."""
    from comfy_kitchen.tensor import TensorCoreFP8Layout

    layers = {}

    def pack(name: str, weight: torch.Tensor) -> Tensors:
        numbers, params = TensorCoreFP8Layout.quantize(weight)
        layers[name] = {"format": "float8_e4m3fn"}
        return {f"{name}.weight": numbers, f"{name}.weight_scale": params.scale}

    written = _each(tensors, pack)
    said = {"format_version": "1.0", "layers": layers}
    save_file(written, path, metadata={"_quantization_metadata": json.dumps(said)})


def comfy_int8(tensors: Tensors, path: Path) -> None:
    """By comfy-kitchen: a scale a row, turned where the rows are of 256 numbers."""
    from comfy_kitchen.tensor import TensorWiseINT8Layout

    def pack(name: str, weight: torch.Tensor) -> Tensors:
        turned = weight.shape[1] % 256 == 0
        numbers, params = TensorWiseINT8Layout.quantize(weight, per_channel=True, convrot=turned)
        note = {"format": "int8_tensorwise"} | (
            {"convrot": True, "convrot_groupsize": 256} if turned else {}
        )
        return {
            f"{name}.weight": numbers, f"{name}.weight_scale": params.scale,
            f"{name}.comfy_quant": _note(note),
        }  # fmt: skip

    save_file(_each(tensors, pack), path)


def kijai_plain(tensors: Tensors, path: Path, dtype: torch.dtype = E4M3) -> None:
    """A cast, of the matrices and of nothing else."""
    save_file(_each(tensors, lambda name, weight: {f"{name}.weight": weight.to(dtype)}), path)


def lightx2v(tensors: Tensors, path: Path, dtype: torch.dtype = torch.int8) -> None:
    """`weight_scale` `[out, 1]`, in the dtype of the source."""
    most = 127.0 if dtype == torch.int8 else torch.finfo(dtype).max

    def pack(name: str, weight: torch.Tensor) -> Tensors:
        scale = _rows(weight, most).to(torch.bfloat16)
        return {f"{name}.weight": _scaled(weight, scale, dtype), f"{name}.weight_scale": scale}

    if path.suffix == ".pth":
        torch.save(_each(tensors, pack), path)
    else:
        save_file(_each(tensors, pack), path)


def musubi(tensors: Tensors, path: Path, kind: str = "block") -> None:
    """`scale_weight` of the tensor, a row, or a block of 64 numbers."""

    def pack(name: str, weight: torch.Tensor) -> Tensors:
        rows, width = weight.shape
        scale = {
            "tensor": weight.abs().max().view(1) / 448,
            "row": _rows(weight, 448),
            "block": weight.view(rows, -1, 64).abs().amax(2, keepdim=True).clamp(min=1e-8) / 448,
        }[kind]
        blocks = weight.view(rows, -1, 64) if kind == "block" else weight
        numbers = _scaled(blocks, scale, E4M3).view(rows, width)
        return {f"{name}.weight": numbers, f"{name}.scale_weight": scale}

    save_file(_each(tensors, pack), path)


def quanto(tensors: Tensors, path: Path) -> None:
    """As optimum-quanto's `QLinear` saves itself, with Wan2GP's map in the header."""
    said = {}

    def pack(name: str, weight: torch.Tensor) -> Tensors:
        scale = _rows(weight, 127).to(torch.bfloat16)
        said[name] = {"weights": "qint8", "activations": "none"}
        return {
            f"{name}.weight._data": _scaled(weight, scale, torch.int8),
            f"{name}.weight._scale": scale,
            f"{name}.input_scale": torch.ones(()), f"{name}.output_scale": torch.ones(()),
        }  # fmt: skip

    written = _each(tensors, pack)
    text = base64.b64encode(json.dumps(said).encode()).decode()
    save_file(
        written, path, metadata={"quantization_format": "quanto", "quantization_map_base64": text}
    )


def q4_k(weight: np.ndarray) -> np.ndarray:
    """Rows in blocks of Q4_K, which gguf-py only reads: the least and the largest of each group."""
    groups = weight.reshape(-1, 8, 32).astype(np.float32)
    low = np.minimum(groups.min(2), 0)
    step = (groups.max(2) - low) / 15
    whole, least = (np.maximum(each.max(1), 1e-12) / 63 for each in (step, -low))
    whole, least = (each.astype(np.float16).astype(np.float32) for each in (whole, least))
    scale, offset = (np.rint(each / of[:, None]).clip(0, 63).astype(np.uint8)
                     for each, of in ((step, whole), (-low, least)))  # fmt: skip
    size = np.maximum(scale * whole[:, None], 1e-12)[..., None]
    fields = np.rint((groups + (offset * least[:, None])[..., None]) / size).clip(0, 15)
    fields = fields.astype(np.uint8).reshape(-1, 4, 2, 32)
    first, second = (
        scale[:, :4] | (scale[:, 4:] >> 4 << 6),
        offset[:, :4] | (offset[:, 4:] >> 4 << 6),
    )
    shared = scale[:, 4:] & 15 | (offset[:, 4:] & 15) << 4
    halves = np.stack([whole, least], 1).astype(np.float16).view(np.uint8)
    numbers = (fields[:, :, 0] | fields[:, :, 1] << 4).reshape(len(groups), -1)
    blocks = np.concatenate([halves, first, second, shared, numbers], 1).astype(np.uint8)
    return blocks.reshape(len(weight), -1)


def gguf_file(
    tensors: Mapping[str, torch.Tensor], path: Path, kind: str = "Q8_0", arch: str = "wan"
) -> None:
    """By gguf-py, named as ComfyUI-GGUF does; what the blocks of K do not fit is Q5_0."""
    writer = gguf.GGUFWriter(path, arch)
    for name, tensor in tensors.items():
        numbers = tensor.numpy()
        own = kind if tensor.shape[-1] % 256 == 0 or kind != "Q4_K" else "Q5_0"
        if not (is_packed(name, tensor) or name == "token_embd.weight"):
            writer.add_tensor(name, numbers)
        elif own == "Q4_K":
            writer.add_tensor(name, q4_k(numbers), raw_dtype=gguf.GGMLQuantizationType.Q4_K)
        else:
            of = gguf.GGMLQuantizationType[own]
            writer.add_tensor(name, gguf.quants.quantize(numbers, of), raw_dtype=of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


FORMATS: Mapping[str, Callable[[Tensors, Path], None]] = {
    "comfy-old": comfy_old,
    "kijai-e5m2-scaled": lambda tensors, path: comfy_old(tensors, path, E5M2),
    "comfy-fp8": comfy_fp8,
    "comfy-int8": comfy_int8,
    "plain-e4m3": kijai_plain,
    "plain-e5m2": lambda tensors, path: kijai_plain(tensors, path, E5M2),
    "lightx2v-int8": lightx2v,
    "lightx2v-fp8": lambda tensors, path: lightx2v(tensors, path, E4M3),
    "musubi-tensor": lambda tensors, path: musubi(tensors, path, "tensor"),
    "musubi-row": lambda tensors, path: musubi(tensors, path, "row"),
    "musubi-block": musubi,
    "quanto": quanto,
    **{f"gguf-{kind}": (lambda tensors, path, kind=kind: gguf_file(tensors, path, kind))
       for kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K")},
}  # fmt: skip


def write(kind: str, path: Path) -> Path:
    """Write the tiny transformer in a format, with official names."""
    FORMATS[kind](dict(official_state("transformer")), path)
    return path
