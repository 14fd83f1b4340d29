"""The bytes around the events: checked frames, sealed maps, and bounded msgpack.

A file is a sealed map (the header), then frames, then on a clean end a sealed map (the trailer).
Frame heads have one fixed shape of 11 bytes, so that nothing has to be guessed after damage.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO
from zlib import crc32

import attrs
import msgpack

FORMAT = "wanflow-trace"
VERSION = 1

# One record or map that is larger is damage. 256 KiB of nested empty lists unpack to 18 MiB of
# Python objects; 1 MiB would take 73 MiB, past what a reader of untrusted files may allocate.
MAX_RECORD_BYTES = 256 * 1024
MAX_MAP_BYTES = 256 * 1024

_BLOCK_BYTES = 256 * 1024  # read at once; a whole record is always in two

FRAME_BYTES = 11
FRAME_MARK, MAP_MARK = b"\x92", b"\xde"
_FRAME = struct.Struct(">BBIBI")
_MARKS = _ARRAY_OF_2, _UINT32, _BIN32 = 0x92, 0xCE, 0xC6
_SEAL = struct.Struct(">BI")
_LIMITS = {
    "raw": False,
    "strict_map_key": True,
    "max_array_len": 4096,
    "max_map_len": 64,
    "max_str_len": 64 * 1024,
    "max_bin_len": 0,
    "max_ext_len": 0,
}
_MAX_DEPTH = 8

# File names may hold bytes that are not text; a trace must be written all the same.
_packer = msgpack.Packer(autoreset=True, unicode_errors="backslashreplace")
_SEAL_KEY: bytes = _packer.pack("crc32")
_MAGIC: bytes = _packer.pack("format") + _packer.pack(FORMAT)


class DamagedError(ValueError):
    """Bytes that no writer of ours made; the message says what is wrong with them."""


class ShortError(DamagedError):
    """The bytes end before the object does."""


@attrs.frozen
class FrameHead:
    """What the 11 bytes before a payload say."""

    crc: int
    payload_bytes: int


@attrs.frozen
class Sealed:
    """A map read back: its items without the seal, its length, and whether the seal holds."""

    values: dict[str, object]
    nbytes: int
    intact: bool


def pack(value: object) -> bytes:
    """Pack *value*; raises TypeError, ValueError or OverflowError for what msgpack can't hold."""
    packed: bytes = _packer.pack(value)
    return packed


def unpack(payload: bytes) -> object:
    """Unpack one untrusted object within the limits, or raise DamagedError."""
    return next(unpack_each((payload,)))[0]


def unpack_each(payloads: Iterable[bytes]) -> Iterator[tuple[object, int]]:
    """Unpack the one object that each payload holds, and say the payload's length; as `unpack`."""
    # The limits are given once: to give them anew for each takes as long as to unpack it.
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_RECORD_BYTES, **_LIMITS)
    feed, unpack_next, tell = unpacker.feed, unpacker.unpack, unpacker.tell
    fed_bytes = 0
    for payload in payloads:
        try:
            feed(payload)
            value = unpack_next()
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            raise DamagedError(f"not msgpack within the limits ({type(error).__name__})") from error
        nbytes = len(payload)
        fed_bytes += nbytes
        if tell() != fed_bytes:
            raise DamagedError("not msgpack within the limits (bytes after the object)")
        yield value, nbytes


def frame(payload: bytes) -> bytes:
    """Put `[crc32, payload]` around *payload*, always with the same 11 bytes of head."""
    return _FRAME.pack(_ARRAY_OF_2, _UINT32, crc32(payload), _BIN32, len(payload)) + payload


def read_frame_head(head: bytes) -> FrameHead:
    """Take a frame's head apart; raises DamagedError, or ShortError when it is cut."""
    if len(head) < FRAME_BYTES:
        raise ShortError("cut in its head")
    array, uint32, crc, bin32, size = _FRAME.unpack(head)
    if (array, uint32, bin32) != _MARKS:
        raise DamagedError("its head is damaged")
    if size > MAX_RECORD_BYTES:
        raise DamagedError(f"it claims {size} bytes, the limit is {MAX_RECORD_BYTES}")
    return FrameHead(crc, size)


def payloads(file: BinaryIO) -> Iterator[bytes]:
    """Yield the payload of each frame, from where *file* stands up to what is no frame.

    Reads ahead; never holds more than two blocks. Raises DamagedError, or ShortError for a frame
    that is cut.
    """
    block, at = b"", 0
    while True:
        if len(block) - at < FRAME_BYTES:
            block, at = block[at:] + file.read(_BLOCK_BYTES), 0
            if len(block) < FRAME_BYTES:
                break
        array, uint32, crc, bin32, size = _FRAME.unpack_from(block, at)
        if (array, uint32, bin32) != _MARKS or size > MAX_RECORD_BYTES:
            break
        start = at + FRAME_BYTES
        at = start + size
        if at > len(block):
            block, start, at = block[start:] + file.read(_BLOCK_BYTES), 0, size
            if at > len(block):
                raise ShortError("cut short")
        payload = block[start:at]
        if crc32(payload) != crc:
            raise DamagedError("its checksum differs")
        yield payload
    if block.startswith(FRAME_MARK, at):
        read_frame_head(block[at : at + FRAME_BYTES])  # tells what is wrong with it


def seal(items: Mapping[str, object]) -> bytes:
    """Pack *items* as a map whose last key, `crc32`, covers every byte before its value.

    Raises ValueError when the reader would refuse the map.
    """
    body = MAP_MARK + (len(items) + 1).to_bytes(2, "big")
    body += b"".join(pack(key) + pack(value) for key, value in items.items()) + _SEAL_KEY
    sealed = body + _SEAL.pack(_UINT32, crc32(body))
    if len(sealed) > MAX_MAP_BYTES:
        raise ValueError(f"the map takes {len(sealed)} bytes, the limit is {MAX_MAP_BYTES}")
    try:
        unseal(sealed)
    except DamagedError as error:
        raise ValueError(f"the map can't be read back: {error}") from error
    return sealed


def unseal(data: bytes) -> Sealed:
    """Read the map that *data* starts with; raises DamagedError, or ShortError when it is cut."""
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_MAP_BYTES, **_LIMITS)
    try:
        unpacker.feed(data[:MAX_MAP_BYTES])
        values = unpacker.unpack()
    except msgpack.OutOfData as error:
        if len(data) >= MAX_MAP_BYTES:
            raise DamagedError(f"longer than {MAX_MAP_BYTES} bytes") from error
        raise ShortError("cut short") from error
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise DamagedError(f"not msgpack within the limits ({type(error).__name__})") from error
    if not isinstance(values, dict) or not _is_plain(values, _MAX_DEPTH):
        raise DamagedError("not a map of plain values")
    nbytes: int = unpacker.tell()
    intact = _seal_holds(data[:nbytes])
    values.pop("crc32", None)
    return Sealed(values, nbytes, intact)


def starts_like_a_trace(data: bytes) -> bool:
    """Say whether *data*, cut anywhere after its first byte, can be the start of a trace."""
    return data[:1] == MAP_MARK and _MAGIC.startswith(data[3 : 3 + len(_MAGIC)])


def _seal_holds(data: bytes) -> bool:
    body, tail = data[: -_SEAL.size], data[-_SEAL.size :]
    return body.endswith(_SEAL_KEY) and tail == _SEAL.pack(_UINT32, crc32(body))


def _is_plain(value: object, depth: int) -> bool:
    """Say whether JSON can hold *value*: no NaN, keys of text, nested at most *depth* deep."""
    if value is None or isinstance(value, str | bool | int):
        return True
    if isinstance(value, float):
        return math.isfinite(value)
    if depth == 0:
        return False
    if isinstance(value, list):
        return all(_is_plain(item, depth - 1) for item in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v, depth - 1) for k, v in value.items())
    return False
