"""Index a GGUF file: where each tensor lies and of which type it is, no byte of data read.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. gguf-py's own reader gives
the same (a test compares), but makes an object of every word of a tokenizer: 14 s and 700 MB for
UMT5's. A quantised matrix is rows of blocks, uint8, and its type is its foreign dtype; what no form
opens is bytes, as everywhere.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import attrs
import torch

from wanflow.errors import WeightsError
from wanflow.models.packing.gguf_blocks import TYPES
from wanflow.models.weights.entry import Entry, check_ranges, cut
from wanflow.models.weights.safetensors_file import HEADER_LIMIT_BYTES

MAGIC = b"GGUF"
_READ_BYTES = 1 << 20
_MOST_SIDES = 8
_PLAIN = {
    0: torch.float32, 1: torch.float16, 24: torch.int8, 25: torch.int16, 26: torch.int32,
    27: torch.int64, 28: torch.float64, 30: torch.bfloat16,
}  # fmt: skip
_QUANTISED = {
    2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS",
    19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 34: "TQ1_0",
    35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_RESHAPED = "comfy.gguf.orig_shape."  # and a name: ComfyUI-GGUF, tools/convert.py


@attrs.define
class _Header:
    """Takes a file's header apart from its beginning; WeightsError where it ends or goes on."""

    path: Path
    file: BinaryIO
    size: int
    data: bytearray = attrs.field(factory=bytearray)
    at: int = 0

    def need(self, count: int) -> None:
        """Have so many more bytes there."""
        end = self.at + count
        if end > self.size:
            raise cut(self.path, f"its header wants {end} bytes, {self.size} are there")
        if end > HEADER_LIMIT_BYTES:
            raise self.bad(f"its header goes on past {HEADER_LIMIT_BYTES} bytes")
        while len(self.data) < end:
            read = self.file.read(max(_READ_BYTES, end - len(self.data)))
            if not read:
                raise cut(self.path, "its header is not whole")
            self.data += read

    def number(self, kind: str) -> int:
        """Take a number, which is 0 where it is not whole: nothing here asks for those."""
        nbytes = struct.calcsize(f"<{kind}")
        self.need(nbytes)
        (value,) = struct.unpack_from(f"<{kind}", self.data, self.at)
        self.at += nbytes
        return value if isinstance(value, int) else 0

    def text(self) -> str:
        """Take a string."""
        count = self.number("Q")
        self.need(count)
        raw = bytes(self.data[self.at : self.at + count])
        self.at += count
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.bad(f"{raw[:40]!r} is no name") from None

    def bad(self, what: str) -> WeightsError:
        """The error for a header that says what cannot be."""
        return WeightsError(f"{self.path}: is a damaged GGUF file: {what}", code="bad-weights")


def index_gguf(path: Path) -> dict[str, Entry]:
    """Index a GGUF file; WeightsError names the file and the tensor that is wrong."""
    try:
        with path.open("rb") as file:
            header = _Header(path, file, path.stat().st_size)
            header.need(len(MAGIC))
            header.at = len(MAGIC)
            return _index(header)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}", code="unreadable-weights") from None


def _index(header: _Header) -> dict[str, Entry]:
    version = header.number("I")
    if version not in (2, 3):
        big = "of a computer of another byte order" if version & 0xFFFF == 0 else "not read"
        raise WeightsError(
            f"{header.path}: is GGUF of version {version}, which is {big}", code="bad-weights"
        )
    tensors, fields = header.number("Q"), header.number("Q")
    facts = dict(_field(header) for _ in range(fields))
    if isinstance(parts := facts.get("split.count"), int) and parts > 1:
        raise WeightsError(
            f"{header.path}: is one of {parts} files of a model, which are not read in parts",
            hint="put them together first: llama-gguf-split --merge",
            code="split-weights",
        )
    entries: dict[str, Entry] = {}
    infos = [_info(header, facts) for _ in range(tensors)]
    alignment = facts.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise header.bad(f"its alignment is {alignment!r}")
    base = math.ceil(header.at / alignment) * alignment
    ranges = []
    for name, entry in infos:
        if name in entries:
            raise header.bad(f"tensor {name!r} is in it twice")
        placed = attrs.evolve(entry, offset=base + entry.offset)
        ranges.append((placed.offset, placed.offset + placed.nbytes, name))
        entries[name] = placed
    check_ranges(header.path, ranges, header.size)
    return {name: _unfolded(name, entry, entries) for name, entry in entries.items()}


def _field(header: _Header) -> tuple[str, object]:
    """Take a fact about the file: numbers, and short lists of them; None for anything else."""
    name = header.text()
    kind = header.number("I")
    if kind == _STRING:
        return name, header.text()
    if kind == _ARRAY:
        return name, _array(header, keep=name.startswith(_RESHAPED))
    if kind not in _SCALARS:
        raise header.bad(f"field {name[:80]!r} is of kind {kind}")
    return name, header.number(_SCALARS[kind])


def _array(header: _Header, *, keep: bool) -> object:
    kind, count = header.number("I"), header.number("Q")
    if kind in _SCALARS:
        if keep and count <= _MOST_SIDES:
            return tuple(header.number(_SCALARS[kind]) for _ in range(count))
        header.need(count * struct.calcsize(f"<{_SCALARS[kind]}"))
        header.at += count * struct.calcsize(f"<{_SCALARS[kind]}")
    elif kind == _STRING:
        header.need(8 * count)
        for _ in range(count):
            nbytes = header.number("Q")
            header.need(nbytes)
            header.at += nbytes
    else:
        raise header.bad(f"a list of kind {kind}")
    return None


def _info(header: _Header, facts: Mapping[str, object]) -> tuple[str, Entry]:
    """Take what is said of a tensor; its offset is from where the data begins."""
    name = header.text()
    count = header.number("I")
    if count > _MOST_SIDES:
        raise header.bad(f"tensor {name[:80]!r} has {count} dimensions")
    shape = tuple(header.number("Q") for _ in range(count))[::-1]
    kind, offset = header.number("I"), header.number("Q")
    if kind in _PLAIN:
        own = facts.get(_RESHAPED + name)
        if isinstance(own, tuple) and own and min(own) > 0 and math.prod(own) == math.prod(shape):
            shape = own
        return name, Entry(header.path, offset, _PLAIN[kind], shape)
    named = _QUANTISED.get(kind, f"GGUF type {kind}")
    blocks = TYPES.get(named)
    if blocks is None or len(shape) != 2:
        return name, Entry(header.path, offset, torch.uint8, (0,), foreign_dtype=named)
    rows, width = shape
    if width % blocks.numbers:
        raise header.bad(
            f"tensor {name!r} has rows of {width}, no blocks of {blocks.numbers} ({named})"
        )
    row_bytes = width // blocks.numbers * blocks.nbytes
    return name, Entry(header.path, offset, torch.uint8, (rows, row_bytes), foreign_dtype=named)


def _unfolded(name: str, entry: Entry, entries: Mapping[str, Entry]) -> Entry:
    """Give a tensor the dimensions that a writer in C left out, which has four, none of them one.

    A convolution's first two are folded there, and a modulation's first one is gone
    (https://github.com/leejet/stable-diffusion.cpp, src/model.cpp).
    """
    if entry.foreign_dtype:
        return entry
    shape = entry.shape
    if name.endswith(("modulation", "emb_pos")) and len(shape) == 2:
        return attrs.evolve(entry, shape=(1, *shape))
    bias = entries.get(f"{name.removesuffix('.weight')}.bias")
    if name.endswith("patch_embedding.weight") and len(shape) == 4 and bias is not None:
        outputs = math.prod(bias.shape)
        if outputs and shape[0] % outputs == 0:
            return attrs.evolve(entry, shape=(outputs, shape[0] // outputs, *shape[1:]))
    return entry
