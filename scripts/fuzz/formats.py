"""Mutators that know a format: the tree or the directory in it is changed, the rest kept in step.

Damage to bytes alone is mostly turned away at the first check (a checksum, a length). These write
what comes past it.
"""

from __future__ import annotations

import io
import json
import math
import random
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import msgpack
import yaml

from scripts.fuzz.damage import damaged
from scripts.fuzz.trees import as_json, as_yaml, changed
from wanflow.trace.framing import FRAME_BYTES, frame, payloads, unseal

Mutate = Callable[[random.Random, bytes], bytes]
_WIDTHS = (
    ("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"),
    ("F16", "BF16", "I16", "U16"),
    ("F32", "I32", "U32"),
    ("F64", "I64", "U64", "C64"),
)
_LIKE = {dtype: alike for alike in _WIDTHS for dtype in alike}
_ENDS = (".alpha", ".scale", ".weight_scale", ".scale_weight", ".bias", ".diff", ".lora_A.weight")
_SHARE_OF_BYTES = 0.35  # of inputs whose bytes are changed, whatever they mean


def mixed(structured: Mutate) -> Mutate:
    """Change a format by what it means, or by its bytes, or both."""

    def mutate(rng: random.Random, data: bytes) -> bytes:
        way = rng.random()
        if way > _SHARE_OF_BYTES / 2:
            data = structured(rng, data)
        return damaged(rng, data) if way < _SHARE_OF_BYTES else data

    return mutate


def json_tree(rng: random.Random, data: bytes) -> bytes:
    """Change a JSON file."""
    return as_json(changed(rng, json.loads(data)))


def yaml_tree(rng: random.Random, data: bytes) -> bytes:
    """Change a YAML file."""
    return as_yaml(changed(rng, yaml.safe_load(data)))


def safetensors_header(rng: random.Random, data: bytes) -> bytes:
    """Change the header of a safetensors file; its length is written anew, mostly right."""
    (nbytes,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + nbytes])
    # Few of the tensors, so that a change of one is not lost among hundreds.
    if rng.random() < 0.3:
        names = rng.sample(sorted(header), min(len(header), 4))
        header = {name: header[name] for name in names}
    header = _sound_header(rng, header) if rng.random() < 0.4 else changed(rng, header)
    written = as_json(header)
    said = len(written) + (rng.choice((-1, 1, 8, 2**40)) if rng.random() < 0.05 else 0)
    return struct.pack("<Q", max(said, 0)) + written + data[8 + nbytes :]


def _sound_header(rng: random.Random, header: dict[str, Any]) -> dict[str, Any]:
    """Change what tensors are, so that their bytes still are as many as the file has."""
    for _ in range(rng.randint(1, 4)):
        tensors = sorted(header.keys() - {"__metadata__"})
        if not tensors:
            return header
        name, other = rng.choice(tensors), rng.choice(tensors)
        about = header[name]
        way = rng.choice(("dtype", "dtype", "shape", "name", "swap", "flat", "end"))
        if way == "dtype" and about["dtype"] in _LIKE:
            about["dtype"] = rng.choice(_LIKE[about["dtype"]])
        elif way == "shape":
            rng.shuffle(about["shape"])
        elif way == "flat":
            about["shape"] = rng.choice(([1, *about["shape"]], [math.prod(about["shape"])]))
        elif way == "swap":
            header[name], header[other] = header[other], header[name]
        else:
            end = rng.choice(_ENDS) if way == "end" else f".{other.rpartition('.')[2]}"
            header[f"{name.rpartition('.')[0]}{end}"] = header.pop(name)
    return header


def torch_archive(rng: random.Random, data: bytes) -> bytes:
    """Change an entry of a zip file of `torch.save`: its bytes, its name, its being there."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(written, "w") as new:
        entries = old.infolist()
        pickles = [at for at, entry in enumerate(entries) if entry.filename.endswith(".pkl")]
        chosen = rng.choice(pickles) if rng.random() < 0.7 else rng.randrange(len(entries))
        for at, entry in enumerate(entries):
            content, name = old.read(entry), entry.filename
            if at == chosen:
                way = rng.choice(("bytes", "bytes", "bytes", "name", "gone", "empty", "packed"))
                if way == "gone":
                    continue
                content = {"bytes": damaged(rng, content), "empty": b""}.get(way, content)
                name = damaged(rng, name.encode()).decode("latin-1") if way == "name" else name
                packed = zipfile.ZIP_DEFLATED if way == "packed" else zipfile.ZIP_STORED
                new.writestr(name.partition("\0")[0] or "x", content, packed)
            else:
                new.writestr(name, content, zipfile.ZIP_STORED)
    return written.getvalue()


def gguf_head(rng: random.Random, data: bytes) -> bytes:
    """Change the head of a GGUF file: its counts, its texts and their lengths, a tensor's row."""
    head = min(len(data), 4096)
    if rng.random() < 0.4:
        at = rng.choice((4, 8, 16))  # version, tensors, fields
        form = "<I" if at == 4 else "<Q"
        value = rng.choice((0, 1, 2, 3, 4, 2**16, 2**31, 2**32 - 1))
        return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]
    return damaged(rng, data[:head]) + data[head:]


def trace_frames(rng: random.Random, data: bytes) -> bytes:
    """Change events under a right checksum: what they say, their order, how many there are."""
    header = unseal(data)
    file = io.BytesIO(data)
    file.seek(header.nbytes)
    packed: list[bytes] = []
    with suppress(ValueError):  # a seed that was cut
        packed.extend(payloads(file))
    if not packed:
        return damaged(rng, data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(packed))
        way = rng.choice(("change", "change", "change", "bytes", "gone", "again", "swap"))
        if way == "change":
            with suppress(ValueError, msgpack.UnpackException):  # its bytes were changed before
                tree = msgpack.unpackb(packed[at], strict_map_key=False)
                packed[at] = _packed(changed(rng, tree)) or packed[at]
        elif way == "bytes":
            packed[at] = damaged(rng, packed[at])
        elif way == "gone" and len(packed) > 1:
            del packed[at]
        elif way == "again":
            packed.insert(at, packed[at])
        else:
            other = rng.randrange(len(packed))
            packed[at], packed[other] = packed[other], packed[at]
    body = b"".join(frame(payload) for payload in packed)
    trailer = data[header.nbytes + _frames_bytes(data, header.nbytes) :]
    return data[: header.nbytes] + body + (trailer if rng.random() < 0.5 else b"")


def _packed(tree: object) -> bytes:
    try:
        return cast("bytes", msgpack.packb(tree))
    except (ValueError, OverflowError, TypeError):
        return b""  # what msgpack can't hold is no input


def _frames_bytes(data: bytes, start: int) -> int:
    file = io.BytesIO(data)
    file.seek(start)
    nbytes = 0
    with suppress(ValueError):
        for payload in payloads(file):
            nbytes += len(payload) + FRAME_BYTES
    return nbytes


def rows(rng: random.Random, data: bytes) -> bytes:
    """Change lines: cells, quotes, separators, what a line holds."""
    lines = data.split(b"\n")
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        ways = (
            b'"',
            b",",
            b"\t",
            b";",
            b"\r",
            b"\0",
            b"{",
            b"[",
            b"9" * 5000,
            b"\xef\xbb\xbf",
            b"\xff",
        )
        piece = rng.choice(ways)
        cut = rng.randint(0, len(lines[at]))
        way = rng.choice(("put", "put", "double", "gone", "swap", "json"))
        if way == "put":
            lines[at] = lines[at][:cut] + piece + lines[at][cut:]
        elif way == "double":
            lines.insert(at, lines[at])
        elif way == "gone" and len(lines) > 1:
            del lines[at]
        elif way == "json" and lines[at].startswith(b"{"):
            lines[at] = json_tree(rng, lines[at]) if _is_json(lines[at]) else lines[at]
        else:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
    return b"\n".join(lines)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
