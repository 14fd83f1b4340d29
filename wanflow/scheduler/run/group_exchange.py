"""The exchange of a run on several ranks: torch.distributed's collectives, NCCL or gloo."""

from __future__ import annotations

import ctypes
import datetime
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.distributed as dist

from wanflow.environment import GLOO_INTERFACE, set_default
from wanflow.errors import StageFailed
from wanflow.scheduler.ranks import LOST, Group, Rank, groups_of

# Whoever started the ranks sees one end and ends the others; a slow one is waited for.
_PATIENCE = datetime.timedelta(days=7)
_BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


@attrs.define
class StoodStill:
    """How long the host stood still for exchanges: for what was carried, and for whom came later.

    On a card it only launches them, so there it says nothing of the ranks.
    """

    nanoseconds: int = 0
    _since: int = attrs.field(default=0, init=False)

    def __enter__(self) -> None:
        self._since = time.perf_counter_ns()

    def __exit__(self, *_what: object) -> None:
        self.nanoseconds += time.perf_counter_ns() - self._since


@attrs.frozen
class GroupExchange:
    """The `Exchange` of a rank among processes of this computer."""

    groups: dict[Group, Any]
    stood: StoodStill = attrs.field(factory=StoodStill)

    def meet(self) -> None:
        """Wait until all ranks have come here."""
        with _all_there():
            dist.barrier()

    def fill(self, pieces: Sequence[torch.Tensor], group: Group) -> None:
        """Have each rank of the group send its piece to the others.

        Pieces may differ in size, which an all-gather on gloo can't have. They are received where
        they belong: nothing is copied, and no memory but theirs is taken.
        """
        with _all_there(), self.stood:
            sends = [
                dist.broadcast(_as_bytes(piece), rank, group=self.groups[group], async_op=True)
                for piece, rank in zip(pieces, group, strict=True)
            ]
            for sent in sends:
                sent.wait()

    def trade(
        self,
        sends: Sequence[tuple[int, torch.Tensor]],
        receives: Sequence[tuple[int, torch.Tensor]],
    ) -> None:
        """Send to some ranks and receive from some, in memory that is there."""
        ways = [(dist.isend, *sent) for sent in sends] + [(dist.irecv, *come) for come in receives]
        if not ways:
            return
        with _all_there(), self.stood:
            works = [dist.P2POp(way, _as_bytes(tensor), peer) for way, peer, tensor in ways]
            for work in dist.batch_isend_irecv(works):
                work.wait()


@contextmanager
def _all_there() -> Iterator[None]:
    """StageFailed where another rank's end is what ends an exchange."""
    try:
        yield
    except RuntimeError as error:
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise StageFailed(f"another rank is gone: {words}", code=LOST) from None


def _as_bytes(piece: torch.Tensor) -> torch.Tensor:
    """View a tensor that lies in one piece as bytes: no backend computes with them.

    gloo's threads hold what they are given for a moment longer than they need it. So that memory is
    let go of where it was asked for, and measured to be, they get a view that doesn't keep it.
    """
    if piece.device.type != "cpu":
        return piece.as_strided((piece.numel(),), (1,)).view(torch.uint8)
    memory = (ctypes.c_uint8 * piece.nbytes).from_address(piece.data_ptr())
    return torch.frombuffer(memory, dtype=torch.uint8)


@contextmanager
def joined(rank: Rank, device: torch.device, meeting: Path) -> Iterator[GroupExchange]:
    """Meet the other ranks by the file *meeting*, which none of them has used before."""
    if rank.kind == "cpu":
        set_default(GLOO_INTERFACE)  # ranks are of one computer, whatever its name is
    dist.init_process_group(
        _BACKENDS[rank.kind], init_method=f"file://{meeting.resolve()}", rank=rank.index,
        world_size=rank.count, timeout=_PATIENCE,
        device_id=device if rank.kind == "cuda" else None,
    )  # fmt: skip
    try:
        yield GroupExchange({group: dist.new_group(list(group)) for group in groups_of(rank.count)})
    finally:
        with suppress(RuntimeError):  # others may be gone
            dist.destroy_process_group()
