"""The ledger: the only door through which weights, values and states move. No torch.

It counts bytes by tier, refuses what does not fit, and emits the event of every move, so the trace
is complete by construction. `resident + free == budget` on every tier after every transition.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

import attrs

from wanflow.errors import OutOfMemory
from wanflow.trace.events import Kind, Move, Verb, Workspace
from wanflow.trace.writer import TraceSink

_Call = TypeVar("_Call")


@attrs.frozen
class Item:
    """Something that lies on a tier. `key` is unique, `name` is for people."""

    key: str
    name: str
    kind: Kind
    nbytes: int


@attrs.frozen
class Cause:
    """What a move is done for."""

    stage: str
    step: int
    why: str


@attrs.define
class _Tier:
    budget_bytes: int
    free_bytes: int
    items: dict[str, Item]
    reserved_bytes: int = 0
    peak_bytes: int = 0
    turn_peak_bytes: int = 0


class Ledger:
    """Accounts of every tier with a budget (the disk has none)."""

    def __init__(
        self,
        budgets: Mapping[str, int],
        sink: TraceSink,
        *,
        check: bool = False,
        clock: Callable[[], int] = time.perf_counter_ns,
        began_ns: int | None = None,
    ) -> None:
        self._tiers = {name: _Tier(nbytes, nbytes, {}) for name, nbytes in budgets.items()}
        self._sink = sink
        self._check = check
        self._clock = clock
        self._began = began_ns if began_ns is not None else clock()

    def now_ns(self) -> int:
        """Time since the ledger was opened."""
        return self._clock() - self._began

    def since_ns(self, clock_ns: int) -> int:
        """Turn a reading of the clock into time since the ledger was opened."""
        return max(clock_ns - self._began, 0)

    @property
    def checks(self) -> bool:
        """Whether every move is checked, at any cost."""
        return self._check

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers that have a budget."""
        return tuple(self._tiers)

    def resident_bytes(self, tier: str) -> int:
        """What lies on a tier, workspaces included."""
        account = self._tiers[tier]
        return account.budget_bytes - account.free_bytes

    def peak_bytes(self, tier: str) -> int:
        """The most that ever lay on a tier."""
        return self._tiers[tier].peak_bytes

    def take_turn_peak_bytes(self, tier: str) -> int:
        """The most that lay on a tier since this was last asked."""
        account = self._tiers[tier]
        peak, account.turn_peak_bytes = account.turn_peak_bytes, self.resident_bytes(tier)
        return peak

    def holds(self, tier: str, key: str) -> bool:
        """Whether an item lies on a tier; no tier holds nothing."""
        return tier in self._tiers and key in self._tiers[tier].items

    def bring(
        self,
        verb: Verb,
        item: Item,
        tier: str,
        source: str,
        cause: Cause,
        room: str = "",
        turn: Cause | None = None,
    ) -> AbstractContextManager[None]:
        """Account for an item before its bytes arrive; the body of the `with` brings them.

        If the body fails the item is taken out again. A body that only starts a load leaves it to a
        Transfer event to say when the bytes were there. *room* is the key of an item (an arena)
        that the bytes are taken out of, instead of what is free; that is done in the *turn* of a
        call, which may be of another stage than the item is for.
        """
        return _Bringing(self, verb, item, tier, source, cause, room, turn or cause)

    def place(self, item: Item, tier: str, cause: Cause) -> None:
        """Account for an item whose bytes are there, in room that was reserved until now."""
        self._enter(item, tier, cause, "", cause)
        at = self._clock() - self._began
        self._emit(Verb.PLACE, item, tier, "", cause, at, at)

    def _enter(self, item: Item, tier: str, cause: Cause, room: str, turn: Cause) -> None:
        account = self._tiers[tier]
        if item.key in account.items:
            msg = f"{item.key} is on {tier} already"
            raise AssertionError(msg)
        if room:
            self._resize(room, -item.nbytes, tier, turn)
        self._take(account, item.nbytes, item.name, tier, cause)
        account.items[item.key] = item

    def _leave(self, item: Item, tier: str, room: str, turn: Cause) -> None:
        account = self._tiers[tier]
        del account.items[item.key]
        account.free_bytes += item.nbytes
        if room:
            self._resize(room, item.nbytes, tier, turn)

    def free(self, key: str, tier: str, cause: Cause, room: str = "") -> None:
        """Take an item off a tier; its memory must be let go of, or goes back to *room*."""
        account = self._tiers[tier]
        item = account.items.pop(key)
        account.free_bytes += item.nbytes
        at = self._clock() - self._began
        self._emit(Verb.FREE, item, tier, "", cause, at, at)
        if room:
            self._resize(room, item.nbytes, tier, cause)

    def _resize(self, key: str, change_bytes: int, tier: str, cause: Cause) -> None:
        """Give an item more or less room; the trace has the difference as a move of its own."""
        account, at = self._tiers[tier], self.now_ns()
        item = account.items[key]
        if item.nbytes + change_bytes < 0:
            raise OutOfMemory(
                f"{item.name} has {item.nbytes} bytes left, {-change_bytes} are wanted",
                code="over-budget",
            )
        account.items[key] = attrs.evolve(item, nbytes=item.nbytes + change_bytes)
        account.free_bytes -= change_bytes
        verb = Verb.PLACE if change_bytes > 0 else Verb.FREE
        self._emit(verb, attrs.evolve(item, nbytes=abs(change_bytes)), tier, "", cause, at, at)

    def free_all(self, tier: str, cause: Cause) -> None:
        """Take every item off a tier: its memory is let go of already."""
        for key in tuple(self._tiers[tier].items):
            self.free(key, tier, cause)

    def work(
        self,
        act: Callable[[_Call], None],
        call: _Call,
        nbytes: int,
        tier: str,
        cause: Cause,
        slack_bytes: int = 0,
    ) -> None:
        """Do a call, which its *cause* names, with room reserved for it while it runs.

        *slack_bytes* of the room are the allocator's. Of a call that fails the trace has nothing.
        """
        account, clock = self._tiers[tier], self._clock
        self._take(account, nbytes, cause.why, tier, cause)
        account.reserved_bytes += nbytes
        resident_bytes = account.budget_bytes - account.free_bytes
        began = clock() - self._began
        try:
            act(call)
        finally:
            account.reserved_bytes -= nbytes
            account.free_bytes += nbytes
        self._sink.emit(
            Workspace(
                cause.why, cause.stage, cause.step, tier, nbytes, resident_bytes, began,
                clock() - self._began, slack_bytes,
            )
        )  # fmt: skip
        if self._check:
            self.check_integrity()

    def _take(self, account: _Tier, nbytes: int, name: str, tier: str, cause: Cause) -> None:
        free_bytes = account.free_bytes - nbytes
        if free_bytes < 0:
            raise OutOfMemory(
                f"{name} needs {nbytes} bytes on {tier} for {cause.stage}, {account.free_bytes} of "
                f"{account.budget_bytes} are free",
                code="over-budget",
            )
        account.free_bytes = free_bytes
        used = account.budget_bytes - free_bytes
        if used > account.turn_peak_bytes:
            account.turn_peak_bytes = used
            account.peak_bytes = max(account.peak_bytes, used)

    def _emit(
        self, verb: Verb, item: Item, tier: str, source: str, cause: Cause, began: int, ended: int
    ) -> None:
        waited = ended - began if verb is Verb.OFFLOAD else 0  # its memory is used again
        account = self._tiers[tier]
        self._sink.emit(
            Move(
                verb, item.kind, item.name, cause.stage, cause.step, source, tier, item.nbytes,
                account.budget_bytes - account.free_bytes, began, ended, waited, cause.why,
            )
        )  # fmt: skip
        if self._check:
            self.check_integrity()

    def check_integrity(self) -> None:
        """Raise AssertionError unless resident + free equals the budget on every tier."""
        for name, account in self._tiers.items():
            resident = account.reserved_bytes + sum(i.nbytes for i in account.items.values())
            if resident + account.free_bytes != account.budget_bytes or account.free_bytes < 0:
                msg = (
                    f"{name}: resident {resident} + free {account.free_bytes} is not the budget "
                    f"{account.budget_bytes}"
                )
                raise AssertionError(msg)


@attrs.define
class _Bringing:
    """An item on its way; a generator's context takes three times as long as one of these."""

    ledger: Ledger
    verb: Verb
    item: Item
    tier: str
    source: str
    cause: Cause
    room: str
    turn: Cause
    began_ns: int = 0

    def __enter__(self) -> None:
        self.ledger._enter(self.item, self.tier, self.cause, self.room, self.turn)  # noqa: SLF001
        self.began_ns = self.ledger.now_ns()

    def __exit__(self, kind: type[BaseException] | None, *_what: object) -> None:
        if kind is not None:
            self.ledger._leave(self.item, self.tier, self.room, self.turn)  # noqa: SLF001
            return
        self.ledger._emit(  # noqa: SLF001
            self.verb, self.item, self.tier, self.source, self.cause, self.began_ns,
            self.ledger.now_ns(),
        )  # fmt: skip
