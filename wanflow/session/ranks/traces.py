"""Follow the traces that the ranks write, and put them together into the run's one trace.

Each rank writes a file of its own, so that whatever ends a process, what it wrote is there. While
the run goes on they are read as they grow; they are taken away once the one trace is closed.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from wanflow.errors import InputError, Interrupted
from wanflow.files.run_files import RANKS
from wanflow.trace import TraceReader, TraceSink, TraceWriter

_OF_A_FILE = ("format", "version", "fields", "crc32")
_OF_A_RANK = ("device", "machine", "budget_bytes", "budget_tier", "overhead_bytes",
              "predicted_peak_bytes", "predicted_seconds", "plan_id", "stages")  # fmt: skip


@attrs.define
class RankTraces:
    """The traces of all ranks at *paths*. *sink* gets the events of the first, as they come."""

    folder: Path
    paths: Sequence[Path]
    sink: TraceSink | None
    _readers: list[TraceReader] = attrs.field(factory=list, init=False)
    _writer: TraceWriter | None = attrs.field(default=None, init=False)

    def follow(self) -> None:
        """Take what was written since, once all of them have begun."""
        if self._writer is None and not self._begin():
            return
        for rank, reader in enumerate(self._readers):
            if not reader.grown() and self._has_ended(reader):
                continue
            for event in reader:
                if self._writer is not None:
                    self._writer.emit(event, rank)
                if rank == 0 and self.sink is not None:
                    self.sink.emit(event)

    def _has_ended(self, reader: TraceReader) -> bool:
        return reader.info().trailer is not None

    def _begin(self) -> bool:
        if not all(path.exists() and path.stat().st_size for path in self.paths):
            return False
        with contextlib.suppress(InputError):
            self._readers = [TraceReader(path) for path in self.paths]
            headers = [reader.header for reader in self._readers]
            if not all(headers):
                return False
            first = {k: v for k, v in headers[0].items() if k not in _OF_A_FILE}
            ranks = [{name: h[name] for name in _OF_A_RANK if name in h} for h in headers]
            trace = self.folder / "trace.msgpack"
            self._writer = TraceWriter(trace, {**first, "ranks": ranks}, overwrite=True)
        return self._writer is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.follow()
        first = (self._readers[0].info().trailer or {}) if self._readers else {}
        for reader in self._readers:
            reader.__exit__(kind, error, where)
        if self._writer is None:
            return
        stopped = isinstance(error, (KeyboardInterrupt, Interrupted))
        ended = str(first.get("status", "done"))  # done, or stopped where it was asked to
        status = ended if error is None else "interrupted" if stopped else "failed"
        self._writer.close(status, first.get("totals") or {})
        if self._writer.problem is None:
            shutil.rmtree(self.folder / RANKS, ignore_errors=True)
