"""Bytes changed as damage changes them: bits, cuts, numbers at their ends, pieces moved about."""

from __future__ import annotations

import random
import struct

_ENDS = (
    0,
    1,
    -1,
    127,
    128,
    255,
    256,
    32767,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    -(2**63),
)
_FORMATS = ("<b", "<h", "<i", "<q", ">h", ">i", ">q")
_MOST_CHANGES = 6
_MOST_ADDED = 4096


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Change *data* in one to six places."""
    for _ in range(rng.randint(1, _MOST_CHANGES)):
        data = rng.choice(_WAYS)(rng, data)
    return data


def _span(rng: random.Random, data: bytes, most: int = 64) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.randint(0, most))


def _flip(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _early_flip(rng: random.Random, data: bytes) -> bytes:
    """Heads are where a format is decided."""
    return _flip(rng, data[:256]) + data[256:]


def _number(rng: random.Random, data: bytes) -> bytes:
    form, value = rng.choice(_FORMATS), rng.choice(_ENDS)
    bits = 8 * struct.calcsize(form)
    value = (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
    start = rng.randint(0, len(data))
    packed = struct.pack(form, value)
    return data[:start] + packed + data[start + len(packed) :]


def _cut(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _end(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randint(0, len(data))]


def _put(rng: random.Random, data: bytes) -> bytes:
    start, _ = _span(rng, data)
    return data[:start] + rng.randbytes(rng.randint(1, 16)) + data[start:]


def _again(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    times = min(rng.choice((1, 2, 64, 1024)), _MOST_ADDED // max(end - start, 1))
    return data[:start] + data[start:end] * max(times, 1) + data[start:]


def _moved(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    to = rng.randint(0, len(data))
    return data[:to] + data[start:end] + data[to + end - start :]


def _zeros(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + bytes(end - start) + data[end:]


_WAYS = (_flip, _early_flip, _early_flip, _number, _cut, _end, _put, _again, _moved, _zeros)
