"""What a file is, seen from its first bytes: names lie, and a link of the hub's has none."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from wanflow.errors import WeightsError
from wanflow.models.weights.archive import HEADER_SIGN
from wanflow.models.weights.entry import FETCH_AGAIN, Entry
from wanflow.models.weights.gguf_file import MAGIC, index_gguf
from wanflow.models.weights.safetensors_file import HEADER_LIMIT_BYTES, index_safetensors
from wanflow.models.weights.torch_file import index_torch_file

_LOOK_BYTES = 512
_VARIANT = "take the safetensors variant of the model, in bf16 or fp16"
_UNPACK = "unpack it, and give what was in it"
_PAGE = "a download was answered with a page: look at the link and at your login, then fetch again"
_POINTER = re.compile(rb"version https?://git-lfs\S*\n(?:.*\n)*?size (\d+)")
_TITLE = re.compile(r"<title[^>]*>([^<]{1,80})", re.IGNORECASE)
_OTHERS = (  # the first bytes, what they are of, what to do
    (b"\x1f\x8b", "packed with gzip", _UNPACK),
    (b"BZh", "packed with bzip2", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed with Zstandard", _UNPACK),
    (b"\xfd7zXZ\x00", "packed with xz", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "an archive of 7-Zip", _UNPACK),
    (b"Rar!", "an archive of RAR", _UNPACK),
    (b"\x89HDF", "an HDF5 file, which is not read", _VARIANT),
    (b"\x93NUMPY", "an array of NumPy, which is not read", _VARIANT),
)


def index_file(path: Path) -> dict[str, Entry]:
    """Index the tensors of a file; WeightsError says what it is if it holds none."""
    start = _start(path)
    plausible = len(start) > 8 and 0 < int.from_bytes(start[:8], "little") <= HEADER_LIMIT_BYTES
    if plausible and start[8:9] == b"{":
        return index_safetensors(path)
    if start.startswith((HEADER_SIGN, b"\x80")):
        return index_torch_file(path)
    if start.startswith(MAGIC):
        return index_gguf(path)
    what, hint = _described(start)
    if what is None and plausible:
        return index_safetensors(path)
    what = what or f"is neither safetensors nor of torch.save: it begins with {start[:16]!r}"
    raise WeightsError(f"{path}: {what}", hint=hint, code="bad-weights")


def _start(path: Path) -> bytes:
    if path.with_name(f"{path.name}.aria2").exists():
        raise WeightsError(
            f"{path}: is not whole: {path.name}.aria2 beside it says that it is on its way",
            hint="let the download end",
            code="cut-weights",
        )
    try:
        with path.open("rb") as file:
            return file.read(_LOOK_BYTES)
    except OSError as error:
        gone = f", a link to {path.readlink()}" if path.is_symlink() and not path.exists() else ""
        raise WeightsError(
            f"{path}{gone}: {error.strerror}",
            hint=FETCH_AGAIN if gone else "",
            code="unreadable-weights",
        ) from None


def _described(start: bytes) -> tuple[str | None, str]:
    """What a file is that begins so, and what to do; None where that cannot be told."""
    if not start:
        return "is empty", FETCH_AGAIN
    if pointer := _POINTER.match(start):
        size = int(pointer[1])
        return f"is a Git LFS pointer; the file itself, of {size} bytes, is not there", (
            "git lfs pull, in the folder that was cloned"
        )
    for magic, words, hint in _OTHERS:
        if start.startswith(magic):
            return f"is {words}", hint
    if start[257:262] == b"ustar":
        return "is an archive of tar", _UNPACK
    if not start.strip(b"\0"):
        return (
            f"begins with {len(start)} zeros, as a download does that has not come yet",
            FETCH_AGAIN,
        )
    return _text(start)


def _text(start: bytes) -> tuple[str | None, str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        text = decoder.decode(start, final=len(start) < _LOOK_BYTES)
    except UnicodeDecodeError:
        return None, ""
    text = text.strip()
    if any(not (letter.isprintable() or letter.isspace()) for letter in text):
        return None, ""
    lowered = text.lower()
    if lowered.startswith("<"):
        title = _TITLE.search(text)
        said = f" ({title[1].strip()!r})" if title else ""
        kind = "XML" if lowered.startswith("<?xml") and "<html" not in lowered else "HTML"
        return f"is an {kind} page{said}, not weights", _PAGE
    if '"weight_map"' in text:
        return "is an index of shards, not weights", "give the folder that it lies in"
    if lowered.startswith(("{", "[")):
        return f"is a JSON text, not weights: {text[:60]!r}", _PAGE
    return f"is a text, not weights: {text[:60]!r}", _PAGE
