"""Encoded prompts on disk: a prompt that was encoded once is read from then on.

A file is named by the digest of all that decides what is in it: the model's files and
configuration, precision, kernels and their versions, the prompt's ids and how they were padded. It
holds the rows of the prompt's own tokens; behind them a text is zeros. The cache may be lost,
damaged, full or out of reach at any moment and nobody is told: the prompt is then encoded.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanflow.environment import PROMPT_CACHE
from wanflow.errors import StageFailed
from wanflow.files import cache
from wanflow.files.folders import cache_folder
from wanflow.graph import BoundGraph
from wanflow.models.bound import LocatedModel
from wanflow.scheduler.profile.cache_key import conditions
from wanflow.session.preparing.place import Place
from wanflow.session.request import Request

if TYPE_CHECKING:
    import torch

    from wanflow.stages.base import Tokens

LARGEST_BYTES = 256 * 2**20  # of the whole folder
MOST_FILES = 4096
_MAGIC = b"wanflow prompt 1\n"


def folder() -> Path:
    """Give the folder of the prompt cache."""
    return cache_folder() / "prompts"


class KeptRows:
    """A file of the cache, held open: what is read is what was found, even if it is gone since."""

    def __init__(self, handle: int, nbytes: int) -> None:
        self._handle, self._nbytes = handle, nbytes
        weakref.finalize(self, os.close, handle)

    def read_into(self, rows: torch.Tensor) -> None:
        """Fill *rows*; StageFailed when the disk doesn't give them."""
        import torch

        view = rows.reshape(-1).view(torch.uint8).numpy().data
        offset, done = cache.head_bytes(_MAGIC), 0
        try:
            while done < len(view):
                got = os.preadv(self._handle, [view[done:]], offset + done)
                if got == 0:
                    break
                done += got
        except OSError as error:
            raise _unreadable(str(error.strerror)) from None
        if done != self._nbytes:
            raise _unreadable(f"{self._nbytes} bytes became {done}")


def _unreadable(why: str) -> StageFailed:
    return StageFailed(
        f"an encoded prompt can't be read: {why}", hint="--no-prompt-cache", code="prompt-cache"
    )


@attrs.define
class Prompts:
    """The encoded prompts of one text encoder under these conditions.

    *identity* is plain data that decides them besides their ids; rows are `row_bytes` of *dtype*.
    *rows_of* digests the table's rows of ids, of which an identity sees a sample.
    """

    path: Path
    identity: Mapping[str, object]
    row_bytes: int
    dtype: torch.dtype
    rows_of: Callable[[Sequence[int]], str] = lambda _ids: ""
    largest_bytes: int = attrs.field(factory=lambda: LARGEST_BYTES)
    most_files: int = attrs.field(factory=lambda: MOST_FILES)
    _found: dict[Tokens, KeptRows | None] = attrs.field(factory=dict, init=False)

    def find(self, tokens: Tokens) -> KeptRows | None:
        """Look for a prompt; what was or wasn't there the first time stays so."""
        if tokens not in self._found:
            path = self._file(tokens)
            self._found[tokens] = _opened(path, len(tokens.ids) * self.row_bytes)
            if self._found[tokens] is not None:
                cache.used(path)
        return self._found[tokens]

    def keep(self, tokens: Tokens, rows: torch.Tensor) -> None:
        """Write the rows of a prompt; a disk that won't take them is no matter.

        What is not finite is not kept: another run may be right.
        """
        import torch

        from wanflow.scheduler.run.finite_check import is_finite

        rows = rows.cpu()
        if rows.dtype != self.dtype or not is_finite(rows):
            return
        body = rows.contiguous().reshape(-1).view(torch.uint8).numpy().data
        cache.put(self._file(tokens), _MAGIC, body, self.largest_bytes, self.most_files)

    def _file(self, tokens: Tokens) -> Path:
        rows = self.rows_of(tokens.ids)
        digest = cache.digest([self.identity, tokens.ids, tokens.count, rows])
        return self.path / f"{digest.hex()}.bin"


def _opened(path: Path, nbytes: int) -> KeptRows | None:
    """Open a file that is whole and holds *nbytes*."""
    file_bytes = cache.head_bytes(_MAGIC) + nbytes
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    rows = KeptRows(handle, nbytes)
    try:
        content = os.pread(handle, file_bytes + 1, 0)
    except OSError:
        return None
    if len(content) != file_bytes or cache.body_of(content, _MAGIC) is None:
        return None
    return rows


def prompts_of(
    graph: BoundGraph, models: Mapping[str, LocatedModel], place: Place, request: Request
) -> dict[str, Prompts]:
    """Open the cache of each stage that encodes prompts here, with weights that are here."""
    if not (PROMPT_CACHE.value == "on" and request.prompt_cache) or request.machine is not None:
        return {}
    return text_stores(graph, models, place, folder())


def text_stores(
    graph: BoundGraph, models: Mapping[str, LocatedModel], place: Place, path: Path
) -> dict[str, Prompts]:
    """Open the prompts in the folder *path* of each stage whose encoder's weights are here."""
    from wanflow.models.wan import umt5
    from wanflow.models.weights.identity import rows_digest

    prompts = {}
    for stage in graph.stages:
        located = models[stage.model] if stage.model else None
        if stage.op.name == "encode_text" and located is not None and located.checkpoint:
            row = located.model.rows(umt5.EMBEDDING)
            facts = _identity(located, place)
            rows_of = functools.partial(rows_digest, located.checkpoint, umt5.EMBEDDING)
            prompts[stage.name] = Prompts(path, facts, row.nbytes, row.dtype, rows_of)
    return prompts


def _identity(located: LocatedModel, place: Place) -> dict[str, object]:
    from wanflow.models.weights.identity import identity
    from wanflow.session.machines import device_name

    return {
        "model": located.identity,
        "weights": None if located.checkpoint is None else identity(located.checkpoint),
        "conditions": conditions(place.kind),
        "device": device_name(place.device),
    }
