"""Weights in 8 bits or in blocks, as those who make such files write them.

    who                       numbers          scale                             said of a layer
    ComfyUI, at first         X.weight         X.scale_weight []                 (scaled_fp8, once)
    ComfyUI, since            X.weight         X.weight_scale [], [out, 1]       X.comfy_quant
    kijai, musubi-tuner       X.weight         X.scale_weight [1], [out, 1],
                                               [out, blocks, 1]
    LightX2V                  X.weight         X.weight_scale [out, 1]
    quanto, Wan2GP            X.weight._data   X.weight._scale [], [out, 1]      the header's map
    a plain cast              X.weight, fp8    none
    GGUF                      X.weight         in its blocks

Sources: ComfyUI, QUANTIZATION.md and comfy/utils.py; github.com/kohya-ss/musubi-tuner,
modules/fp8_optimization_utils.py; github.com/ModelTC/LightX2V, tools/convert/converter.py;
optimum-quanto, tensor/weights/qbytes.py; github.com/ggml-org/ggml, docs/gguf.md. What such a file
has and nothing here opens is refused by name: weights without all of their scales are noise.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import torch

from wanflow.errors import WeightsError
from wanflow.models.packing.form import PACKED, Form
from wanflow.models.packing.gguf import Gguf
from wanflow.models.packing.gguf_blocks import TYPES
from wanflow.models.packing.scaled import NAMES, ROTATED, SCALE, Scaled
from wanflow.models.weights.beside_weights import FLOATS, SCALES, TAKE, WEIGHT, Beside
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.quantised_layers import Layer, layers_of

# What more some formats have beside a weight, and which.
_UNREAD = {
    ".weight_scale_2": "nvfp4", ".weight_global_scale": "nvfp4", ".input_global_scale": "nvfp4",
    ".weight_scale_inv": "fp8 in blocks of rows and columns", ".pre_quant_scale": "AWQ",
    ".scale_weight_tensor": "fp8 with a scale of scales", ".weight_s_rel": "W4A8",
    ".weight_proj_down": "SVDQuant", ".weight_smooth_factor": "SVDQuant", ".wscales": "SVDQuant",
    ".weight.absmax": "bitsandbytes", ".weight.quant_map": "bitsandbytes", ".SCB": "bitsandbytes",
    ".qweight": "GPTQ or AWQ", ".qzeros": "GPTQ or AWQ", ".weight._shift": "quanto below 8 bits",
    ".weight_zero_point": "a zero point", ".weight._packed": "quanto below 8 bits",
}  # fmt: skip
_DTYPES = {
    "float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2,
    "int8_tensorwise": torch.int8,
}  # fmt: skip


@attrs.frozen
class PackedWeight:
    """A packed weight of a file: its form, and where its pieces are."""

    form: Form
    pieces: Mapping[str, Entry]


@attrs.frozen
class Recognised:
    """The tensors of files; of a packed weight its numbers alone are there, as `X.weight`.

    `packed` has those by that name, `format` is what people call the files.
    """

    entries: Mapping[str, Entry]
    packed: Mapping[str, PackedWeight] = attrs.field(factory=dict)
    format: str = ""
    notes: tuple[str, ...] = ()


def recognised(entries: Mapping[str, Entry]) -> Recognised:
    """Find the packed weights; WeightsError where one is not whole, or of a format not read."""
    _check_read(entries)
    layers, found = layers_of(entries), Beside(entries)
    packed: dict[str, PackedWeight] = {}
    for name, entry in found.numbers.items():
        layer = layers.pop(name.removesuffix(WEIGHT), None)
        if (made := _packed(name, entry, layer, found)) is not None:
            packed[name] = made
    for layer in layers.values():
        raise WeightsError(f"{layer.said_by} names a layer without a weight", code="bad-weights")
    forms = [each.form for each in packed.values()]
    found.check_used(has_any=any(isinstance(form, Scaled) for form in forms))
    plain = {name: entry for name, entry in entries.items() if name not in found.beside}
    is_gguf = any(isinstance(form, Gguf) for form in forms)
    said = "GGUF" if is_gguf else found.format() if packed else ""
    return Recognised(plain | found.numbers, packed, said, found.inputs())


def _check_read(entries: Mapping[str, Entry]) -> None:
    for name, entry in entries.items():
        for end, what in _UNREAD.items():
            if name.endswith(end):
                raise WeightsError(
                    f"{entry.path}: tensor {name!r} is of a format that is not read: {what}",
                    hint=TAKE,
                    code="unread-format",
                )


def _packed(name: str, entry: Entry, layer: Layer | None, found: Beside) -> PackedWeight | None:
    """How a weight is packed; None where it is not."""
    if entry.foreign_dtype in TYPES and _is_matrix(entry):
        rows, row_bytes = entry.shape
        kind = TYPES[entry.foreign_dtype]
        blocks = Gguf((rows, row_bytes // kind.nbytes * kind.numbers), entry.foreign_dtype)
        return PackedWeight(blocks, {PACKED: attrs.evolve(entry, stored_as=name)})
    stored = f"{name}._data" if f"{name}._data" in found.beside else name
    if layer is not None:
        entry = _as_said(name, entry, layer)
    scale = found.scales.get(name)
    if entry.dtype not in NAMES or entry.foreign_dtype:
        if scale is not None:
            raise WeightsError(
                f"{entry.path}: tensor {scale[0]!r} scales {name!r}, which is {entry.dtype_name} "
                "and not in 8 bits",
                hint=TAKE,
                code="wrong-dtype",
            )
        return None
    if scale is None:
        return _unscaled(name, entry, found, layer)
    if not _is_matrix(entry):
        raise WeightsError(
            f"{entry.path}: tensor {name!r}, {NAMES[entry.dtype]} with a scale, is "
            f"{list(entry.shape)}: only matrices are read so",
            hint=TAKE,
            code="unread-format",
        )
    at = _scale(name, entry, *scale)
    form = Scaled(entry.shape, entry.dtype, at.shape, rotated=layer is not None and layer.rotated)
    if form.rotated and entry.shape[1] % ROTATED:
        raise WeightsError(
            f"{entry.path}: tensor {name!r} has rows of {entry.shape[1]}, no groups of {ROTATED} "
            "(ConvRot)",
            code="wrong-shape",
        )
    return PackedWeight(form, {PACKED: attrs.evolve(entry, stored_as=stored), SCALE: at})


def _is_matrix(entry: Entry) -> bool:
    """Whether it has rows, and something in them, that can be opened some at a time."""
    return len(entry.shape) == 2 and 0 not in entry.shape


def _unscaled(name: str, entry: Entry, found: Beside, layer: Layer | None) -> PackedWeight | None:
    """A plain cast, where it can be one; what is no matrix is converted when it is read."""
    if layer is not None or (found.marked and len(entry.shape) > 1):
        raise WeightsError(
            f"{entry.path}: tensor {name!r} is {NAMES[entry.dtype]}, and its scale is missing",
            hint=f"expected {', '.join(name.removesuffix(WEIGHT) + end for end in SCALES[:2])}",
            code="missing-tensor",
        )
    if entry.dtype == torch.int8 or not _is_matrix(entry):
        return None
    numbers = attrs.evolve(entry, stored_as=name)
    return PackedWeight(Scaled(entry.shape, entry.dtype, None), {PACKED: numbers})


def _as_said(name: str, entry: Entry, layer: Layer) -> Entry:
    """A weight in the dtype that is said of it: fp8 may be stored as bytes."""
    dtype = _DTYPES[layer.format]
    if entry.dtype == torch.uint8 and not entry.foreign_dtype and layer.format != "int8_tensorwise":
        return attrs.evolve(entry, dtype=dtype)
    if entry.dtype != dtype:
        raise WeightsError(
            f"{layer.said_by} is {layer.format}, and tensor {name!r} is {entry.dtype_name}",
            hint=TAKE,
            code="wrong-dtype",
        )
    return entry


def _scale(name: str, weight: Entry, own: str, entry: Entry) -> Entry:
    """A scale in the shape that a form has it in; WeightsError for one that fits no weight so."""
    rows, width = weight.shape
    shape: tuple[int, ...] | None = None
    if set(entry.shape) <= {1}:
        shape = ()
    elif entry.shape in ((rows,), (rows, 1)):
        shape = (rows, 1)
    elif len(entry.shape) == 3 and entry.shape[::2] == (rows, 1) and not width % entry.shape[1]:
        shape = entry.shape
    if shape is None or entry.dtype not in FLOATS or entry.foreign_dtype:
        raise WeightsError(
            f"{entry.path}: tensor {own!r} is {list(entry.shape)} in {entry.dtype_name}: no scale "
            f"of {name!r}, {list(weight.shape)}",
            hint=f"read are [], [{rows}, 1] and [{rows}, blocks, 1] in fp32, bf16 or fp16",
            code="wrong-shape",
        )
    return attrs.evolve(entry, shape=shape, stored_as=own)
