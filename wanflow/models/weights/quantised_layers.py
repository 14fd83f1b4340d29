"""What a file says of its layers: how each is quantised, in a tensor beside it or in its header.

ComfyUI's (QUANTIZATION.md): a tensor `X.comfy_quant` with JSON in it, or the JSON of all layers as
`_quantization_metadata` in the header. quanto's, as Wan2GP writes it: `quantization_map_base64`.
"""

from __future__ import annotations

import base64
import binascii
import json
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import attrs

from wanflow.errors import WeightsError
from wanflow.models.packing.scaled import ROTATED
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.file_reads import read_bytes
from wanflow.models.weights.safetensors_file import safetensors_metadata

NOTE = ".comfy_quant"
_COMFY, _QUANTO = "_quantization_metadata", "quantization_map_base64"
_MOST_BYTES = 1 << 16  # of a note
# ComfyUI's formats that are opened here; quanto's by the same names.
FORMATS = {"float8_e4m3fn", "float8_e5m2", "int8_tensorwise"}
_QUANTO_FORMATS = {
    "qint8": "int8_tensorwise", "qfloat8": "float8_e4m3fn", "qfloat8_e4m3fn": "float8_e4m3fn",
    "qfloat8_e5m2": "float8_e5m2",
}  # fmt: skip


@attrs.frozen
class Layer:
    """What is said of a layer, and by what: a format of `FORMATS`, turned (ConvRot) or not."""

    format: str
    rotated: bool
    said_by: str


def layers_of(entries: Mapping[str, Entry]) -> dict[str, Layer]:
    """What files say of their layers, by path; WeightsError for what is not read."""
    layers: dict[str, Layer] = {}
    for path in sorted({entry.path for entry in entries.values()}):
        layers |= dict(_in_header(path))
    for name, entry in entries.items():
        if name.endswith(NOTE):
            note = _note(entry, name)
            layers[name.removesuffix(NOTE)] = _layer(note, f"{entry.path}: tensor {name!r}")
    return layers


def _in_header(path: Path) -> Iterator[tuple[str, Layer]]:
    metadata = safetensors_metadata(path, (_COMFY, _QUANTO))
    if _COMFY in metadata:
        where = f"{path}: {_COMFY} in its header"
        said = _parsed(metadata[_COMFY], where)
        for name, fields in _items(said.get("layers"), where):
            yield name, _layer(fields, f"{where}, layer {name!r}")
    if _QUANTO in metadata:
        where = f"{path}: {_QUANTO} in its header"
        try:
            text = base64.b64decode(metadata[_QUANTO], validate=True).decode()
        except (ValueError, binascii.Error):
            raise WeightsError(f"{where} is no base64 of a text", code="bad-weights") from None
        for name, fields in _items(_parsed(text, where), where):
            yield name, _quanto(fields, f"{where}, layer {name!r}")


def _items(said: object, where: str) -> Iterable[tuple[str, dict[str, object]]]:
    if not isinstance(said, dict) or not all(isinstance(fields, dict) for fields in said.values()):
        raise WeightsError(f"{where} has no fields by layer", code="bad-weights")
    return said.items()


def _note(entry: Entry, name: str) -> dict[str, object]:
    where = f"{entry.path}: tensor {name!r}"
    if entry.nbytes > _MOST_BYTES:
        raise WeightsError(
            f"{where} is too large for a note: {entry.nbytes} bytes", code="bad-weights"
        )
    return _parsed(read_bytes(entry), where)


def _parsed(text: str | bytes, where: str) -> dict[str, object]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise WeightsError(f"{where} is no JSON object", code="bad-weights")
    return said


def _layer(fields: Mapping[str, object], where: str) -> Layer:
    """A layer as ComfyUI says it; what it says of a rotation may be one level deeper."""
    named = fields.get("format")
    if named not in FORMATS:
        raise _unread(named, where)
    deeper = fields.get("params")
    both = {**(deeper if isinstance(deeper, dict) else {}), **fields}
    group = both.get("convrot_groupsize", ROTATED)
    if both.get("convrot") and (named != "int8_tensorwise" or group != ROTATED):
        raise WeightsError(
            f"{where}: ConvRot of {group!r} columns on {named} is not read",
            hint=f"int8_tensorwise with groups of {ROTATED} is; or take the bf16 or fp16 variant",
            code="unread-format",
        )
    return Layer(str(named), bool(both.get("convrot")), where)


def _quanto(fields: Mapping[str, object], where: str) -> Layer:
    named = _QUANTO_FORMATS.get(str(fields.get("weights")))
    if named is None:
        raise _unread(fields.get("weights"), where)
    return Layer(named, rotated=False, said_by=where)


def _unread(named: object, where: str) -> WeightsError:
    return WeightsError(
        f"{where}: the format {reprlib.repr(named)} is not read",
        hint="read are int8 and fp8 with their scales, and GGUF; or take the bf16 or fp16 variant",
        code="unread-format",
    )
