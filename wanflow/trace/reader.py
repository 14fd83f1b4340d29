"""Read a trace that may be cut, damaged or hostile: bounded, streaming, and honest about losses.

The reader stops at the first bad or short record. Nothing after it is guessed at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from wanflow.errors import InputError
from wanflow.trace.codec import Row, checked, event_of, unranked
from wanflow.trace.events import Event
from wanflow.trace.framing import (
    FORMAT,
    FRAME_BYTES,
    MAP_MARK,
    MAX_MAP_BYTES,
    VERSION,
    DamagedError,
    ShortError,
    payloads,
    read_frame_head,
    starts_like_a_trace,
    unpack_each,
    unseal,
)
from wanflow.trace.opening import open_trace, telling

MAX_RANKS = 1024
"""Devices that a run is believed to have had; a header may claim any number."""
_NO_TRAILER = "no trailer: the run did not close the trace"


class State(StrEnum):
    """How a trace ends."""

    WHOLE = "whole"  # with its trailer, and nothing after it
    CUT = "cut"  # the file just stops: a killed run, a full disk, or a run that goes on
    DAMAGED = "damaged"  # bytes that no writer made


@attrs.frozen
class TraceFile:
    """What a file holds. `records` were read, `skipped` were of a kind unknown to this version.

    `lost_bytes` lie after the last whole record; `problem` says what is there, "" when whole.
    """

    path: str
    file_bytes: int
    header: dict[str, Any]
    state: State
    trailer: dict[str, Any] | None
    records: int
    skipped: int
    lost_bytes: int
    problem: str


class TraceReader:
    """Open a trace, read its header, then iterate over its events once; `info` tells the rest.

    Of a run on several devices, `ranks` of them, the events of one *rank* are read, and all are
    counted; `header` says then what it says of that rank.

    Raises InputError when *path* is missing, empty, a folder, no trace, or of another version, when
    it can't be read, or when its run had no such rank.
    """

    def __init__(self, path: Path | str, rank: int = 0) -> None:
        self.path, self.rank, self.ranks = Path(path), rank, 1
        self._file = open_trace(self.path)
        self.header: dict[str, Any] = {}
        self._of_ranks: dict[str, Any] = {}
        self._trailer: dict[str, Any] | None = None
        self._state = State.CUT
        self._problem = ""
        self._good_bytes = self._records = self._skipped = 0
        self._readable = True
        try:
            with telling(self.path):
                self._read_header()
            self._choose_rank()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; again is no error."""
        self._file.close()

    @property
    def changed_ns(self) -> int:
        """When the file was written to last, by the clock."""
        return os.fstat(self._file.fileno()).st_mtime_ns

    @property
    def closed(self) -> bool:
        """Whether the file was let go of."""
        return self._file.closed

    def __iter__(self) -> Iterator[Event]:
        """Yield each event up to the first record that is bad or short."""
        return map(event_of, self.rows())

    def rows(self) -> Iterator[Row]:
        """Yield each event as a checked row: half the work, for what only adds up."""
        return (row for rank, row in self.ranked_rows() if rank == self.rank)

    def ranked_rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the rows of every rank that the run had, each with its rank."""
        with telling(self.path):  # of our own reading: what is made of a row is not in it
            yield from self._rows()

    def _rows(self) -> Iterator[tuple[int, Row]]:
        if not self._readable:
            return
        self._file.seek(self._good_bytes)
        try:
            for value, nbytes in unpack_each(payloads(self._file)):
                rank, own = unranked(value)
                row = checked(own)
                self._good_bytes += FRAME_BYTES + nbytes
                if row is None:
                    self._skipped += 1
                else:
                    self._records += 1
                    if rank < self.ranks:
                        yield rank, row
        except DamagedError as error:
            record = self._records + self._skipped + 1
            self._end(_state_for(error), f"record {record}: {error}")
        else:
            self._read_end()

    def grown(self) -> bool:
        """Get ready to read on where a cut file ended: a run may go on; False where it is over."""
        if self._state is not State.CUT or self._good_bytes == 0:
            return False
        self._readable = True
        return True

    def info(self, rank: int | None = None) -> TraceFile:
        """Say what was found so far: complete once the events were iterated over.

        The header is that of *rank*, None for the one that is read.
        """
        file_bytes = os.fstat(self._file.fileno()).st_size
        return TraceFile(
            path=str(self.path),
            file_bytes=file_bytes,
            header=self.header if rank is None else self._header_of(rank),
            state=self._state,
            trailer=self._trailer,
            records=self._records,
            skipped=self._skipped,
            lost_bytes=max(0, file_bytes - self._good_bytes),
            problem=self._problem,
        )

    def _read_header(self) -> None:
        data = self._file.read(MAX_MAP_BYTES)
        if not starts_like_a_trace(data):
            what = "is empty" if not data else f"is not a {FORMAT} file"
            raise InputError(
                f"{self.path} {what}", hint="give a trace.msgpack of a run", code="not-a-trace"
            )
        try:
            header = unseal(data)
        except DamagedError as error:
            self._end(_state_for(error), f"header: {error}")
            return
        if header.intact:
            self.header = header.values
            self._check_version()
            self._good_bytes = header.nbytes
        else:
            # Where it ends may still be right; the records after it have checksums of their own.
            self._end(State.DAMAGED, "header: its checksum differs")
            self._good_bytes = header.nbytes
            self._readable = True

    def _choose_rank(self) -> None:
        self._of_ranks = self.header
        rows = self.header.get("ranks")
        if isinstance(rows, list) and rows:
            self.ranks = min(len(rows), MAX_RANKS)
        if self.rank >= self.ranks:
            raise InputError(
                f"{self.path} has no rank {self.rank}: its run had {self.ranks}",
                hint=f"--rank 0 to {self.ranks - 1}",
                code="no-rank",
            )
        self.header = self._header_of(self.rank)

    def _header_of(self, rank: int) -> dict[str, Any]:
        """Give the header that says of a rank what it says of the run's first."""
        header = self._of_ranks
        if self.ranks > 1 and isinstance(own := header["ranks"][rank], dict):
            return {**header, **own}
        return header

    def _check_version(self) -> None:
        version = self.header.get("version")
        if type(version) is not int or version != VERSION:
            raise InputError(
                f"{self.path} has trace version {version!r}, this wanflow reads version {VERSION}",
                hint="read it with the wanflow that wrote it",
                code="trace-version",
            )

    def _read_end(self) -> None:
        """Tell a trailer, the bare end of the file and damage apart."""
        self._file.seek(self._good_bytes)
        data = self._file.read(MAX_MAP_BYTES)
        if not data:
            self._end(State.CUT, _NO_TRAILER)
        elif not data.startswith(MAP_MARK):
            self._read_late(data)
        else:
            try:
                self._read_trailer(data)
            except DamagedError as error:
                self._end(_state_for(error), f"trailer: {error}")

    def _read_late(self, data: bytes) -> None:
        """Tell damage from a record that was written after the last one was read: a run goes on."""
        record = self._records + self._skipped + 1
        try:
            read_frame_head(data[:FRAME_BYTES])
        except DamagedError as error:
            self._end(_state_for(error), f"record {record}: {error}")
        else:
            self._end(State.CUT, _NO_TRAILER)

    def _read_trailer(self, data: bytes) -> None:
        trailer = unseal(data)
        if not trailer.intact:
            raise DamagedError("its checksum differs")
        records = self._records + self._skipped
        if trailer.values.get("records") != records:
            raise DamagedError(
                f"it counts {trailer.values.get('records')!r} records, {records} are here"
            )
        self._trailer = trailer.values
        self._good_bytes += trailer.nbytes
        if len(data) > trailer.nbytes or self._file.read(1):
            raise DamagedError("there are bytes after it")
        self._end(State.WHOLE, "")

    def _end(self, state: State, problem: str) -> None:
        # The first damage found is the one told: a header's is not undone by a sound trailer.
        if self._state is not State.DAMAGED:
            self._state, self._problem = state, problem
        self._readable = False


def read(path: Path | str, rank: int = 0) -> Iterator[Event]:
    """Yield the events of a trace one at a time; raises InputError, on the first, for no trace."""
    with TraceReader(path, rank) as reader:
        yield from reader


def inspect(path: Path | str) -> TraceFile:
    """Read a trace through and say what it holds; raises InputError when it is no trace."""
    with TraceReader(path) as reader:
        for _ in reader.rows():
            pass
        return reader.info()


def _state_for(error: DamagedError) -> State:
    return State.CUT if isinstance(error, ShortError) else State.DAMAGED
