"""Audit a trace: whether the file is whole, bytes are conserved, and the budget was kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from wanflow.trace.codec import event_of
from wanflow.trace.events import Event, FootprintRows, Memory, Move, Note, Preview, Verb, Workspace
from wanflow.trace.measured import MeasuredPeaks
from wanflow.trace.plain import plain
from wanflow.trace.reader import State, TraceFile, TraceReader

PROBLEMS_KEPT = 20


@attrs.frozen
class AuditProblem:
    """What is wrong: `file`, `conservation`, `budget`, `time`, `dropped`.

    Records count from 1, those of all ranks.
    """

    code: str
    record: int
    text: str


@attrs.frozen
class TierAccount:
    """All that ever came to a tier and left it. `came - left` is what is there at the end."""

    tier: str
    came_bytes: int
    left_bytes: int
    resident_bytes: int
    peak_bytes: int


@attrs.frozen
class Checked:
    """What an audit found. `problems` are the first ones, `problem_count` says how many."""

    path: str
    state: str
    events: int
    lost_bytes: int
    status: str | None
    ok: bool
    tiers: tuple[TierAccount, ...]
    problems: tuple[AuditProblem, ...]
    problem_count: int

    def to_dict(self) -> dict[str, Any]:
        """Give what `trace check --json` prints."""
        return plain(self)


@attrs.define
class _Account:
    """A tier's books."""

    came_bytes: int = 0
    left_bytes: int = 0
    peak_bytes: int = 0
    off_bytes: int = 0  # said before, so that one mistake is told once

    @property
    def nbytes(self) -> int:
        return self.came_bytes - self.left_bytes + self.off_bytes


@attrs.define
class Auditor:
    """Follows the events and keeps books of its own."""

    budget_bytes: int | None = None
    budget_tier: str | None = None
    overhead_bytes: int = 0
    measured: MeasuredPeaks = attrs.field(factory=MeasuredPeaks)
    accounts: dict[str, _Account] = attrs.field(factory=dict)
    problems: list[AuditProblem] = attrs.field(factory=list)
    problem_count: int = 0
    record: int = 0

    def add(self, event: Event) -> None:
        """Audit one event."""
        self.record += 1
        timeless = Memory | Note | Preview | FootprintRows
        if not isinstance(event, timeless) and event.ended_ns < event.began_ns:
            self.say("time", f"it ends at {event.ended_ns} ns, before it begins")
        if isinstance(event, Move):
            self._move(event)
        elif isinstance(event, Workspace):
            self._workspace(event)
        elif isinstance(event, Memory):
            self.measured.take(event)

    def end(self) -> None:
        """Hold what others counted against the budget."""
        peak = self.measured.peak(self.budget_tier, self.overhead_bytes)
        if peak is not None and self.budget_bytes and peak.nbytes > self.budget_bytes:
            over = peak.nbytes - self.budget_bytes
            said = f"{peak.nbytes} bytes measured on {self.budget_tier} ({peak.source})"
            self.say("budget", f"{said}, {over} over the budget")

    def say(self, code: str, text: str) -> None:
        """Note a problem."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(AuditProblem(code, self.record, text))

    def _move(self, move: Move) -> None:
        account = self.accounts.setdefault(move.tier, _Account())
        if move.verb is Verb.FREE:
            account.left_bytes += move.nbytes
        else:
            account.came_bytes += move.nbytes
        self._compare(move, account, account.nbytes)

    def _workspace(self, work: Workspace) -> None:
        account = self.accounts.setdefault(work.tier, _Account())
        self._compare(work, account, account.nbytes + work.nbytes)

    def _compare(self, event: Move | Workspace, account: _Account, expected: int) -> None:
        account.peak_bytes = max(account.peak_bytes, event.resident_bytes)
        if event.resident_bytes != expected:
            said = f"{event.tier} holds {event.resident_bytes} bytes, the moves make it {expected}"
            self.say("conservation", f"after {event.name}: {said}")
            account.off_bytes += event.resident_bytes - expected
        room = (self.budget_bytes or 0) - self.overhead_bytes
        if self.budget_bytes and event.tier == self.budget_tier and event.resident_bytes > room:
            said = f"{event.resident_bytes} bytes on {event.tier}, the budget leaves {room}"
            self.say("budget", f"{event.name} of {event.stage}: {said}")


def check(path: Path | str, rank: int = 0) -> Checked:
    """Read a trace through and audit a rank of it; raises InputError when it is no trace."""
    return _audited(path, rank)[rank]


def check_ranks(path: Path | str) -> list[Checked]:
    """Read a trace through and audit every rank of it, the first one first."""
    return [*_audited(path, None).values()]


def _audited(path: Path | str, only: int | None) -> dict[int, Checked]:
    with TraceReader(path, only or 0) as reader:
        ranks = range(reader.ranks) if only is None else [only]
        auditors = {rank: _auditor(reader.info(rank).header) for rank in ranks}
        for number, (rank, row) in enumerate(reader.ranked_rows()):
            if (auditor := auditors.get(rank)) is not None:
                auditor.record = number
                auditor.add(event_of(row))
        return {rank: _checked(reader.info(), auditor) for rank, auditor in auditors.items()}


def _checked(file: TraceFile, auditor: Auditor) -> Checked:
    auditor.end()
    _check_file(file, auditor)
    tiers = tuple(
        TierAccount(tier, a.came_bytes, a.left_bytes, a.nbytes, a.peak_bytes)
        for tier, a in auditor.accounts.items()
    )
    status = (file.trailer or {}).get("status")
    return Checked(
        file.path, str(file.state), file.records, file.lost_bytes,
        status if isinstance(status, str) else None, not auditor.problem_count, tiers,
        tuple(auditor.problems), auditor.problem_count,
    )  # fmt: skip


def _auditor(header: dict[str, Any]) -> Auditor:
    tier = header.get("budget_tier")
    numbers = (header.get(key) for key in ("budget_bytes", "overhead_bytes"))
    budget, overhead = (n if type(n) is int and n > 0 else 0 for n in numbers)
    return Auditor(budget or None, tier if isinstance(tier, str) else None, overhead)


def _check_file(file: TraceFile, auditor: Auditor) -> None:
    if file.state is not State.WHOLE:
        lost = f"{file.records} events read, {file.lost_bytes} bytes lost"
        auditor.say("file", f"{file.state}: {file.problem}; {lost}")
    dropped = (file.trailer or {}).get("dropped")
    if type(dropped) is int and dropped > 0:
        auditor.say("dropped", f"{dropped} events could not be written down")
