"""Say which tensor is the first that a cut `.pth` file has not whole.

The directory of a zip file is at its end, so that a cut file has none. The pickle is at its start,
and says how large each entry after it is: going from header to header finds the one that is cut.
Only for the error message; nothing is read from such a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from wanflow.errors import WeightsError
from wanflow.models.weights.archive import HEADER, HEADER_SIGN, PICKLE_LIMIT_BYTES
from wanflow.models.weights.pickle_reader import Storage, read_pickle

_FOOTER_SIGN = b"PK\x07\x08"  # after an entry whose header was written before its size was known
_SMALL_BYTES = 4096  # more than any entry has that is neither the pickle nor a storage


def first_cut(path: Path) -> str:
    """Name the first tensor that is not whole; empty where that cannot be told."""
    try:
        with path.open("rb") as file:
            return _first_cut(path, file, path.stat().st_size)
    except (OSError, WeightsError, ValueError, LookupError):
        return ""


def _first_cut(path: Path, file: BinaryIO, size: int) -> str:
    first = _data_start(file, 0)
    if first is None or not first[0].endswith("/data.pkl"):
        return ""
    file.seek(first[1])
    pickled = read_pickle(file.read(PICKLE_LIMIT_BYTES), path)
    storages = {stored.storage.key: stored.storage for stored in pickled.tensors.values()}
    complete = _complete(file, first[1] + pickled.nbytes, storages, size)
    nbytes = sum(storage.nbytes for storage in storages.values())
    cut = f"is cut: its tensors have {nbytes} bytes, the file {size}"
    for name, stored in pickled.tensors.items():
        if stored.storage.key not in complete:
            return f"{cut}; tensor {name!r} is not whole"
    return f"{cut}; the directory behind its tensors is not whole"


def _complete(file: BinaryIO, end: int, storages: Mapping[str, Storage], size: int) -> set[str]:
    """Keys of the storages that are whole, from entry to entry behind the pickle."""
    complete: set[str] = set()
    while (entry := _data_start(file, _next_header(file, end))) is not None:
        name, start = entry
        _, _, key = name.partition("/data/")
        if key in storages:
            end = start + storages[key].nbytes
            if end > size:
                break
            complete.add(key)
        else:
            file.seek(start)
            footer = file.read(_SMALL_BYTES).find(_FOOTER_SIGN)
            if footer < 0:
                break
            end = start + footer
    return complete


def _data_start(file: BinaryIO, position: int) -> tuple[str, int] | None:
    """The name of the entry whose header is at *position*, and where its bytes begin."""
    file.seek(position)
    header = file.read(HEADER.size)
    if len(header) < HEADER.size or not header.startswith(HEADER_SIGN):
        return None
    name_bytes, extra_bytes = HEADER.unpack(header)[-2:]
    name = file.read(name_bytes).decode()
    return name, position + HEADER.size + name_bytes + extra_bytes


def _next_header(file: BinaryIO, end: int) -> int:
    """Where the header after an entry's bytes is: behind a footer of 16 or 24 bytes, or at once."""
    file.seek(end)
    behind = file.read(28)
    if not behind.startswith(_FOOTER_SIGN):
        return end
    return end + (16 if behind[16:20] == HEADER_SIGN else 24)
