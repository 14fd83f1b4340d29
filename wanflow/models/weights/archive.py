"""The container of `torch.save`: a zip file whose entries are stored as they are.

`zipfile` reads the directory; what it says is checked against each entry's own header and against
the file, so that an entry's bytes can be read at an offset. Nothing is unpacked
(https://docs.pytorch.org/docs/stable/notes/serialization.html).
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, cast

import attrs

from wanflow.errors import WeightsError

PICKLE_LIMIT_BYTES = (
    1 << 20
)  # a full model's is 0.2 MB; its reader holds up to a hundred times that
_DIRECTORY_LIMIT_BYTES = 4 << 20
HEADER = struct.Struct("<4sHHHHHIIIHH")  # an entry's own header, before its name and extra field
HEADER_SIGN = b"PK\x03\x04"
_ENCRYPTED = 0x1
_UNPACK = "if weights are packed in it, unpack it and give what was in it"
# What zipfile raises for bytes that no writer made: RuntimeError where they say "encrypted", or
# (NotImplementedError) an unknown compression, the others for offsets and names out of bounds.
_DAMAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, struct.error, ValueError, RuntimeError, LookupError,
    OverflowError,
)  # fmt: skip
_HINT = "download it again, or compare its size with the published one"


@attrs.frozen
class Span:
    """The bytes of an entry in the file."""

    offset: int
    nbytes: int


@attrs.frozen
class Archive:
    """The pickle of an archive, and where the storages lie that it names, by their key."""

    path: Path
    size: int
    pickle: bytes
    storages: Mapping[str, Span]


def open_archive(path: Path) -> Archive:
    """Read the directory and the pickle; WeightsError for what `torch.save` does not write."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            _check_start(path, file.read(4))
            with zipfile.ZipFile(cast("BinaryIO", _Bounded(file))) as archive:
                spans = _spans(path, file, archive.infolist(), archive.start_dir)
                folder = _folder(path, spans)
                _check_order(path, archive.namelist(), archive, f"{folder}/byteorder")
            file.seek(spans[f"{folder}/data.pkl"].offset)
            pickle = file.read(spans[f"{folder}/data.pkl"].nbytes)
    except OSError as error:
        raise WeightsError(
            f"{path}: {error.strerror or 'cannot be read'}", code="unreadable-weights"
        ) from None
    except _DAMAGE:
        raise _damaged(path) from None
    prefix = f"{folder}/data/"
    storages = {n.removeprefix(prefix): s for n, s in spans.items() if n.startswith(prefix)}
    return Archive(path, size, pickle, storages)


def _damaged(path: Path) -> WeightsError:
    return WeightsError(
        f"{path}: its directory is damaged, or the file is cut", hint=_HINT, code="cut-weights"
    )


def _check_start(path: Path, start: bytes) -> None:
    if start == HEADER_SIGN:
        return
    if start[:1] == b"\x80":
        raise WeightsError(
            f"{path}: is a bare pickle, perhaps from torch.save before 1.6; it is not read",
            hint="torch.save(torch.load(FILE, weights_only=True), NEW) writes what can be read",
            code="legacy-weights",
        )
    raise WeightsError(f"{path}: is no file of torch.save", code="bad-weights")


class _Bounded:
    """A file for `zipfile`, which would read a directory of any size into memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= _DIRECTORY_LIMIT_BYTES:
            position = self._file.tell()
            left = self._file.seek(0, 2) - position
            self._file.seek(position)
            if count >= 0 or left > _DIRECTORY_LIMIT_BYTES:
                raise zipfile.BadZipFile
        return self._file.read(count)


def _spans(path: Path, file: BinaryIO, entries: list[zipfile.ZipInfo], end: int) -> dict[str, Span]:
    """Where the bytes of each entry are: stored, whole, its own, before the directory."""
    spans: dict[str, Span] = {}
    taken: list[tuple[int, int, str]] = []
    for info in entries:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _ENCRYPTED:
            raise WeightsError(
                f"{path}: is a zip file, but none of torch.save: entry {info.orig_filename!r} is "
                "packed",
                hint=_UNPACK,
                code="bad-weights",
            )
        start = _data_start(path, file, info)
        if info.orig_filename in spans or info.compress_size != info.file_size:
            raise WeightsError(
                f"{path}: entry {info.orig_filename!r} is there twice or has two sizes",
                code="bad-weights",
            )
        spans[info.orig_filename] = Span(start, info.file_size)
        taken.append((info.header_offset, start + info.file_size, info.orig_filename))
    taken.sort()
    for (_, stop, name), (start, _, other) in pairwise([*taken, (end, end, "the directory")]):
        if start < stop:
            raise WeightsError(
                f"{path}: entries {name!r} and {other!r} overlap", code="bad-weights"
            )
    return spans


def _data_start(path: Path, file: BinaryIO, info: zipfile.ZipInfo) -> int:
    file.seek(max(info.header_offset, 0))  # what is before the file is told below
    sign, _, flags, method, _, _, _, _, _, name_bytes, extra_bytes = HEADER.unpack(
        file.read(HEADER.size)
    )
    name = file.read(name_bytes)
    if (
        sign != HEADER_SIGN
        or info.header_offset < 0
        or method != zipfile.ZIP_STORED
        or flags & _ENCRYPTED
        or name != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
    ):
        raise WeightsError(
            f"{path}: entry {info.orig_filename!r} is not where the directory says",
            code="bad-weights",
        )
    return int(info.header_offset + HEADER.size + name_bytes + extra_bytes)


def _folder(path: Path, spans: Mapping[str, Span]) -> str:
    """The one folder that every entry is in."""
    pickles = [name for name in spans if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise WeightsError(
            f"{path}: is a zip file, but none of torch.save: it has {len(pickles) or 'no'} "
            "data.pkl",
            hint=_UNPACK,
            code="bad-weights",
        )
    folder = pickles[0].removesuffix("/data.pkl")
    if f"{folder}/constants.pkl" in spans:
        raise WeightsError(
            f"{path}: is a TorchScript program, not a dictionary of tensors", code="bad-weights"
        )
    if spans[pickles[0]].nbytes > PICKLE_LIMIT_BYTES:
        raise WeightsError(
            f"{path}: its pickle has {spans[pickles[0]].nbytes} bytes; up to {PICKLE_LIMIT_BYTES} "
            "are read",
            code="bad-weights",
        )
    return folder


def _check_order(path: Path, names: list[str], archive: zipfile.ZipFile, entry: str) -> None:
    if entry in names and archive.read(entry) != b"little":
        raise WeightsError(
            f"{path}: its numbers are not little-endian, which is all that is read",
            code="bad-weights",
        )
