"""What weights are by their contents, whatever names, layout, sizes and times their files have.

A model's identity is of its tensors: name, dtype, shape, and a sample of the bytes of each. What
was read of a file is remembered while the file is the same: device, inode, size and both times, and
a few pages of it, since images of file systems come with inodes and times of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from wanflow.files import cache
from wanflow.files.folders import cache_folder
from wanflow.models.weights.checkpoint import Checkpoint
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.file_reads import opened, reading
from wanflow.models.weights.sample import DIGEST_BYTES, sampled

_MAGIC = b"wanflow samples 1\n"
_FOLDER_BYTES, _MOST_FILES = 8 << 20, 512
_FEW_PAGES = 16
_YOUNG_NS = 2_000_000_000  # what changes again so soon may keep its times


def identity(checkpoint: Checkpoint) -> str:
    """Give the identity of a part's tensors."""
    files: dict[Path, list[tuple[str, Entry]]] = defaultdict(list)
    for name, entry in checkpoint.entries.items():
        files[entry.path].append((name, entry))
    rows = []
    for path, named in files.items():
        digests = _samples(path, [(entry.offset, entry.nbytes) for _, entry in named])
        rows += [
            [name, entry.dtype_name, entry.shape, digest.hex()]
            for (name, entry), digest in zip(named, digests, strict=True)
        ]
    rows += [[name, "packed", repr(form)] for name, form in checkpoint.forms.items()]
    return cache.digest(sorted(rows, key=lambda row: row[:2])).hex()


def rows_digest(checkpoint: Checkpoint, name: str, rows: Sequence[int]) -> str:
    """Digest rows of a table, all of their bytes."""
    if packed := checkpoint.forms.get(name):
        target = torch.empty(len(rows), packed.shape[1])
    else:
        entry = checkpoint.entries[name]
        target = torch.empty(len(rows), entry.shape[1], dtype=entry.dtype)
    checkpoint.read_rows_into(name, list(rows), target, None)
    return hashlib.sha256(target.view(torch.uint8).numpy().data).hexdigest()


def stat_key(about: os.stat_result) -> tuple[int, ...]:
    """What tells a file from what it was, as far as its file system keeps time."""
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _samples(path: Path, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """The digest of each span of a file, remembered from before or read."""
    with opened(path) as handle, reading(path):
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
        about = os.fstat(handle)
        few = sampled(handle, 0, about.st_size, _FEW_PAGES) if spans else b""
        memo = _memo([stat_key(about), few.hex(), list(spans)])
        remembered = _remembered(memo, len(spans))
        if remembered is not None:
            return remembered
        digests = [sampled(handle, *span) for span in spans]
    if memo is not None and time.time_ns() - max(about.st_mtime_ns, about.st_ctime_ns) > _YOUNG_NS:
        cache.put(memo, _MAGIC, b"".join(digests), _FOLDER_BYTES, _MOST_FILES)
    return digests


def _memo(facts: object) -> Path | None:
    with contextlib.suppress(RuntimeError):  # no home directory
        return cache_folder() / "samples" / f"{cache.digest(facts).hex()}.bin"
    return None


def _remembered(memo: Path | None, count: int) -> list[bytes] | None:
    try:
        body = None if memo is None else cache.body_of(memo.read_bytes(), _MAGIC)
    except OSError:
        return None
    if body is None or len(body) != count * DIGEST_BYTES or memo is None:
        return None
    cache.used(memo)
    return [body[start : start + DIGEST_BYTES] for start in range(0, len(body), DIGEST_BYTES)]
