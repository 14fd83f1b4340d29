"""The index of a file of safetensors.

Its header is checked before anything is believed (https://github.com/huggingface/safetensors#format):
its size, every shape against its byte range, no overlap, nothing past the end of the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import attrs
import torch

from wanflow.errors import WeightsError
from wanflow.models.weights.entry import Entry, check_ranges, cut
from wanflow.models.weights.file_reads import opened, reading, unreadable

HEADER_LIMIT_BYTES = 100_000_000
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "C64": torch.complex64,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip
DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def index_safetensors(path: Path) -> dict[str, Entry]:
    """Index a file of safetensors; WeightsError names the file and the tensor that is wrong."""
    header, base, size = _header(path)
    header.pop("__metadata__", None)
    return _entries(path, header, base, size)


def safetensors_metadata(path: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Texts of these names in the header of a file of safetensors; nothing of any other file."""
    with opened(path) as handle, reading(path):
        start = os.pread(handle, 9, 0)
        if start[8:] != b"{":
            return {}
        text = os.pread(handle, min(int.from_bytes(start[:8], "little"), HEADER_LIMIT_BYTES), 8)
    if not any(name.encode() in text for name in names):
        return {}
    said = _header(path)[0].get("__metadata__")
    if not isinstance(said, dict):
        return {}
    return {name: said[name] for name in names if isinstance(said.get(name), str)}


def _header(path: Path) -> tuple[dict[str, object], int, int]:
    """The header of a file of safetensors, where its data begins, and the file's size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > HEADER_LIMIT_BYTES:
                raise WeightsError(f"{path}: is no safetensors file", code="bad-weights")
            if length > size - 8:
                raise cut(path, f"its header has {length} bytes, {size - 8} of them are there")
            header = json.loads(file.read(length))
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError):
        raise WeightsError(f"{path}: its header is no JSON", code="bad-weights") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: its header is no JSON object", code="bad-weights")
    return header, 8 + length, size


def _entries(path: Path, header: dict[str, object], base: int, size: int) -> dict[str, Entry]:
    entries, ranges = {}, []
    for name, fields in header.items():
        entry, end = _entry(path, name, fields, base)
        ranges.append((entry.offset, end, name))
        entries[name] = entry
    check_ranges(path, ranges, size)
    return entries


def _entry(path: Path, name: str, fields: object, base: int) -> tuple[Entry, int]:
    match fields:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]} if (
            all(type(n) is int and n >= 0 for n in (*shape, start, end)) and start <= end
        ):
            entry = Entry(path, base + start, _DTYPES.get(dtype, torch.uint8), tuple(shape))
            if dtype not in _DTYPES:
                entry = attrs.evolve(entry, shape=(end - start,), foreign_dtype=dtype)
        case _:
            raise WeightsError(f"{path}: tensor {name!r} is malformed", code="bad-weights")
    if entry.nbytes != end - start:
        raise WeightsError(
            f"{path}: tensor {name!r} has {end - start} bytes, its shape needs {entry.nbytes}",
            code="bad-weights",
        )
    return entry, base + end
