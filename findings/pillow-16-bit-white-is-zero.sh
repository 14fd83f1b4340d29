#!/bin/bash
# Pillow 13.0.0 reads a 16-bit grey TIFF whose photometric interpretation is WhiteIsZero (TIFF 6.0: 0 is white) without
# inverting it, in mode I;16; the same file with 8 bits is inverted. Scanners and X-ray archives write such files: the
# picture comes out as its negative, and nothing says so.
#
# Seen: "8 bits: 255 white" and "16 bits: 0 (white would be 65535)". Exit 0 while that is so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pillow==13.0.0
"$work/venv/bin/python" - <<'P'
import io
import struct

from PIL import Image

WHITE_IS_ZERO = 0


def grey_tiff(bits: int) -> bytes:
    """One pixel that is zero, which is white here."""
    pixel = bytes(bits // 8)
    tags = [(256, 1), (257, 1), (258, bits), (259, 1), (262, WHITE_IS_ZERO), (277, 1), (278, 1)]
    directory = 2 + 12 * (len(tags) + 2) + 4
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags]
    entries += [struct.pack("<HHII", 273, 4, 1, 8 + directory), struct.pack("<HHII", 279, 4, 1, len(pixel))]
    body = struct.pack("<H", len(entries)) + b"".join(sorted(entries)) + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8) + body + pixel


eight, sixteen = (Image.open(io.BytesIO(grey_tiff(bits))) for bits in (8, 16))
print(f"8 bits: {eight.getpixel((0, 0))} white")
print(f"16 bits: {sixteen.getpixel((0, 0))} (white would be 65535)")
raise SystemExit(not (eight.getpixel((0, 0)) == 255 and sixteen.mode == "I;16" and sixteen.getpixel((0, 0)) == 0))
P
