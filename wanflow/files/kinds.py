"""What a file is by its first bytes, for messages: people hand over all sorts of files."""

from __future__ import annotations

_HEADS = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG", "PNG"), (b"GIF8", "GIF"), (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"), (b"BM", "BMP"), (b"%!PS", "PostScript (EPS)"),
    (b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"), (b"%PDF", "PDF"), (b"8BPS", "a Photoshop file"),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"), (b"<svg", "SVG"), (b"<?xml", "XML or SVG"),
    (b"<!doctype html", "a web page"), (b"<html", "a web page"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"PK\3\4", "a zip archive"), (b"\0\0\0\x0cJXL", "JPEG XL"), (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cjP", "JPEG 2000"), (b"v/1\x01", "OpenEXR"), (b"#?RADIANCE", "Radiance HDR"),
)  # fmt: skip
_BRANDS = {
    "avif": "AVIF", "avis": "AVIF", "heic": "HEIC", "heix": "HEIC", "heim": "HEIC",
    "hevc": "HEIC", "mif1": "HEIC", "msf1": "HEIC",
}  # fmt: skip


def named_kind(data: bytes) -> str:
    """Name what begins with these bytes; "" for what is not known."""
    if not data.strip(b"\0"):
        return "nothing but zeros" if data else "empty"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12].decode("latin-1").lower(), "a video")
    if data[:4] == b"RIFF":
        return {b"WEBP": "WEBP", b"AVI ": "a video (AVI)"}.get(data[8:12], "")
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((name for start, name in _HEADS if head.startswith(start.lower())), "")
