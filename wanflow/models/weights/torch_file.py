"""Index a `.pth` file: the name, offset, dtype and shape of every tensor, no byte of data read."""

from __future__ import annotations

from pathlib import Path

from wanflow.errors import WeightsError
from wanflow.models.weights.archive import Archive, open_archive
from wanflow.models.weights.cut_archive import first_cut
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.pickle_reader import Stored, read_pickle

_MOST_SIDES = 16


def index_torch_file(path: Path) -> dict[str, Entry]:
    """Index a file of `torch.save`; WeightsError names the file and the tensor that is wrong."""
    try:
        archive = open_archive(path)
    except WeightsError as error:
        if error.code == "cut-weights" and (cut := first_cut(path)):
            raise WeightsError(f"{path} {cut}", hint=error.hint, code=error.code) from None
        raise
    pickled = read_pickle(archive.pickle, path)
    if pickled.nbytes != len(archive.pickle):
        raise WeightsError(f"{path}: its pickle goes on after its end", code="bad-weights")
    return {name: _entry(archive, name, stored) for name, stored in pickled.tensors.items()}


def _entry(archive: Archive, name: str, stored: Stored) -> Entry:
    shape, stride = _sides(stored.shape), _sides(stored.stride)
    (offset,), storage = _sides((stored.offset,)) or (None,), stored.storage
    if shape is None or stride is None or offset is None or len(shape) != len(stride):
        raise WeightsError(f"{archive.path}: tensor {name!r} is malformed", code="bad-weights")
    span = archive.storages.get(storage.key)
    if span is None or span.nbytes != storage.nbytes:
        has = "is missing" if span is None else f"has {span.nbytes} bytes"
        raise WeightsError(
            f"{archive.path}: tensor {name!r} needs {storage.nbytes} bytes of entry "
            f"data/{storage.key[:40]!r}, which {has}",
            code="bad-weights",
        )
    if not _is_contiguous(shape, stride):
        raise WeightsError(
            f"{archive.path}: tensor {name!r} is {list(shape)} with strides {list(stride)}; only "
            "contiguous tensors are read",
            hint="save it with .contiguous()",
            code="strided-weights",
        )
    start = span.offset + offset * storage.dtype.itemsize
    entry = Entry(archive.path, start, storage.dtype, shape)
    if start + entry.nbytes > span.offset + span.nbytes:
        raise WeightsError(
            f"{archive.path}: tensor {name!r} ends {start + entry.nbytes - span.offset} bytes into "
            f"an entry of {span.nbytes}",
            code="bad-weights",
        )
    return entry


def _sides(value: object) -> tuple[int, ...] | None:
    """Take a tuple of sizes, or None for anything else."""
    if not isinstance(value, tuple) or len(value) > _MOST_SIDES:
        return None
    return value if all(type(side) is int and 0 <= side < 2**63 for side in value) else None


def _is_contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether elements follow each other; a side of one or no element may have any stride."""
    if 0 in shape:
        return True
    step = 1
    for side, distance in zip(reversed(shape), reversed(stride), strict=True):
        if side != 1 and distance != step:
            return False
        step *= side
    return True
