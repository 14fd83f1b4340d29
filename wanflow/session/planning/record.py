"""What a run was planned from, into its trace and back: all that planning it again needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, Never

import attrs

from wanflow.errors import InputError, TraceError
from wanflow.scheduler.footprint.costs import Footprint
from wanflow.scheduler.footprint.rows import Row, rows_of
from wanflow.scheduler.footprint.rows_reader import FootprintReader, RowError
from wanflow.scheduler.machine.figures import Machine
from wanflow.scheduler.machine.machine_json import as_data, parse
from wanflow.session.planning.planned import Planned
from wanflow.trace import TraceSink
from wanflow.trace.events import FootprintRows

_MOST_ROWS, _MOST_TEXT = 4000, 200_000  # of a record, which holds at most 4,096 and 256 KiB
_MOST_VARIANTS = 16
_MOST_BYTES = 2**60


@attrs.frozen
class Recorded:
    """What a run was planned from. `variants` are its footprints, `ran` the number of its own."""

    machine: Machine
    tier: str
    budget_bytes: int
    overhead_bytes: int
    ram_bytes: int | None
    pins: Mapping[str, str]
    spills: Mapping[str, str]
    exact: bool
    ran: int
    variants: tuple[Footprint, ...]
    ram_is_stated: bool = False


def record_footprints(planned: Planned, sink: TraceSink) -> None:
    """Write what *planned* was planned from: one record of the whole, then the footprints' rows."""
    footprints = planned.footprints
    ran = next(n for n, f in enumerate(footprints) if f is planned.plan.footprint)
    row = json.dumps(_about(planned, ran), separators=(",", ":"))
    sink.emit(FootprintRows(0, "plan", (row,)))
    for variant, footprint in enumerate(footprints):
        for section, rows in _records(rows_of(footprint)):
            sink.emit(FootprintRows(variant, section, rows))


def _about(planned: Planned, ran: int) -> dict[str, object]:
    prepared, place = planned.prepared, planned.prepared.place
    return {
        "machine": as_data(place.machine),
        "tier": place.tier,
        "budget_bytes": place.budget_bytes,
        "overhead_bytes": place.overhead_bytes,
        "ram_bytes": place.ram_bytes,
        "ram_is_stated": place.ram_is_stated,
        "pins": dict(prepared.weight_pins()),
        "spills": dict(prepared.spill_pins()),
        "exact": prepared.request.exact,
        "variants": len(planned.footprints),
        "ran": ran,
    }


def _records(rows: Iterable[Row]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Put rows of one section together, as many as a record holds."""
    for section, group in groupby(rows, key=itemgetter(0)):
        texts: list[str] = []
        length = 0
        for _, text in group:
            if texts and (len(texts) >= _MOST_ROWS or length + len(text) > _MOST_TEXT):
                yield section, tuple(texts)
                texts, length = [], 0
            texts.append(text)
            length += len(text) + 5  # what msgpack puts before a text
        yield section, tuple(texts)


@attrs.define
class Collector:
    """Takes the records of a trace in order; TraceError names *path* for what no run wrote."""

    path: str
    _about: dict[str, Any] | None = attrs.field(default=None, init=False)
    _machine: Machine | None = attrs.field(default=None, init=False)
    _readers: list[FootprintReader] = attrs.field(factory=list, init=False)

    def take(self, event: FootprintRows) -> None:
        """Take one record."""
        if event.section == "plan":
            self._plan(event)
            return
        if not self._readers or event.variant >= len(self._readers):
            self._wrong("rows of a footprint that is not announced")
        try:
            for row in event.rows:
                self._readers[event.variant].take(event.section, row)
        except RowError as error:
            self._wrong(str(error))

    def _plan(self, event: FootprintRows) -> None:
        if self._about is not None or len(event.rows) != 1:
            self._wrong("it is announced twice")
        try:
            about = json.loads(event.rows[0])
        except (ValueError, RecursionError):
            self._wrong("no JSON")
        if not isinstance(about, dict) or not isinstance(about.get("machine"), dict):
            self._wrong("no machine is in it")
        try:
            self._machine = parse(json.dumps(about["machine"]), f"{self.path}: the machine in it")
        except InputError as error:
            self._wrong(error.message)
        count = self._int(about, "variants", _MOST_VARIANTS)
        self._readers = [FootprintReader() for _ in range(count)]
        self._about = about

    def recorded(self) -> Recorded:
        """Give what was recorded; TraceError unless all of it is there."""
        about, machine = self._about, self._machine
        if about is None or machine is None:
            raise TraceError(
                f"{self.path} holds no footprint to plan again",
                hint="an older wanflow wrote it, or it is cut: run or plan anew",
                code="no-footprint",
            )
        footprints = [reader.footprint for reader in self._readers]
        variants = tuple(footprint for footprint in footprints if footprint is not None)
        if len(variants) < len(footprints) or not variants:
            raise TraceError(
                f"{self.path} is cut before its footprint is whole",
                hint="run or plan anew",
                code="no-footprint",
            )
        ram = about.get("ram_bytes")
        return Recorded(
            machine=machine,
            tier=self._text(about, "tier"),
            budget_bytes=self._int(about, "budget_bytes", _MOST_BYTES),
            overhead_bytes=self._int(about, "overhead_bytes", _MOST_BYTES),
            ram_bytes=None if ram is None else self._int(about, "ram_bytes", _MOST_BYTES),
            pins=self._words(about, "pins", {"resident", "stream"}),
            spills=self._words(about, "spills", {"none", "all"}),
            exact=about.get("exact") is True,
            ram_is_stated=about.get("ram_is_stated") is True,
            ran=self._int(about, "ran", len(variants) - 1),
            variants=variants,
        )

    def _int(self, about: Mapping[str, Any], name: str, most: int) -> int:
        value = about.get(name)
        if type(value) is not int or not 0 <= value <= most:
            self._wrong(f"{name} is not from 0 to {most}")
        return value

    def _text(self, about: Mapping[str, Any], name: str) -> str:
        value = about.get(name)
        if not isinstance(value, str) or len(value) > 100:
            self._wrong(f"{name} is no short text")
        return value

    def _words(self, about: Mapping[str, Any], name: str, allowed: set[str]) -> Mapping[str, str]:
        value = about.get(name)
        if not isinstance(value, dict) or not all(
            isinstance(v, str) and v in allowed for v in value.values()
        ):
            self._wrong(f"{name} is not a map to {' or '.join(sorted(allowed))}")
        return value

    def _wrong(self, problem: str) -> Never:
        raise TraceError(
            f"{self.path}: its footprint is not what a run writes: {problem}",
            hint="run or plan anew",
            code="bad-footprint",
        )
