"""Files of pictures that libraries don't write: TIFF and PNG put together by hand."""

import struct
import zlib

import numpy as np

_TYPES = {"u": 1, "i": 2, "f": 3}


def tiff(pixels: np.ndarray, *, white_is_zero: bool = False, bits: int | None = None) -> bytes:
    """An uncompressed TIFF of `[H, W]` or `[H, W, 3]`, of whatever numbers these are."""
    height, width, *channels = pixels.shape
    count = channels[0] if channels else 1
    data = pixels.tobytes()
    photometric = 2 if count == 3 else int(not white_is_zero)
    depth, kind = (bits or 8 * pixels.itemsize,) * count, (_TYPES[pixels.dtype.kind],) * count
    entries = [(256, (width,)), (257, (height,)), (258, depth), (259, (1,)), (262, (photometric,)),
               (273, (8,)), (277, (count,)), (278, (height,)), (339, kind)]  # fmt: skip
    after = 8 + len(data)
    lists = after + 2 + 12 * (len(entries) + 1) + 4
    table, extra = b"", b""
    for tag, values in entries:
        packed = struct.pack(f"<{len(values)}H", *values)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", lists + len(extra)), extra + packed
        table += struct.pack("<HHI", tag, 3, len(values)) + packed.ljust(4, b"\0")
        if tag == 278:
            table += struct.pack("<HHII", 279, 4, 1, len(data))
    directory = struct.pack("<H", len(entries) + 1) + table + bytes(4)
    return b"II*\0" + struct.pack("<I", after) + data + directory + extra


def png(pixels: np.ndarray, *, clear: tuple[int, ...] = (), claims: tuple[int, int] | None = None):
    """A PNG of uint16 `[H, W]` or `[H, W, 3]`; *clear* is its transparent colour.

    *claims* is another width and height than it has.
    """
    height, width, *channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", *(claims or (width, height)), 16, 2 if channels else 0, 0, 0, 0)
    parts = [(b"IHDR", head)]
    if clear:
        parts.append((b"tRNS", struct.pack(f">{len(clear)}H", *clear)))
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
