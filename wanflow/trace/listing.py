"""Events one by one, chosen and written out: a line for people, an object for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TextIO

import attrs

from wanflow.terminal.safe import printable
from wanflow.trace.codec import tag_of
from wanflow.trace.events import (
    Event,
    FootprintRows,
    Kind,
    Memory,
    Move,
    Note,
    Preview,
    StageSpan,
    Step,
    Transfer,
    Verb,
    Workspace,
)
from wanflow.units import format_bytes

_NS_PER_MS = 1e6
_WIDE = 110  # cells that every column fits into, and a name of some length


@attrs.frozen
class EventFilter:
    """Which events to show; what is None does not choose. `name` is a part of an object's name.

    An event that lacks what is asked for (a note has no stage) is left out.
    """

    verb: Verb | None = None
    kind: Kind | None = None
    stage: str | None = None
    name: str | None = None
    limit: int | None = None

    def wants(self, event: Event) -> bool:
        """Say whether *event* is chosen (`limit` apart)."""
        if self.verb is not None and not (isinstance(event, Move) and event.verb is self.verb):
            return False
        if self.kind is not None and _kind(event) is not self.kind:
            return False
        if self.stage is not None and getattr(event, "stage", None) != self.stage:
            return False
        return self.name is None or self.name in getattr(event, "name", "")


def select(events: Iterable[Event], wanted: EventFilter) -> Iterator[Event]:
    """Yield the chosen events, at most `limit`, without reading on after the last."""
    return islice((event for event in events if wanted.wants(event)), wanted.limit)


def event_dict(event: Event) -> dict[str, Any]:
    """Give *event* as plain values: its kind under `event`, then its fields; times are ns."""
    values = {field.name: getattr(event, field.name) for field in attrs.fields(type(event))}
    return {"event": tag_of(event), **values}


def event_line(event: Event, width: int | None = None) -> str:
    """Write *event* as one line of aligned columns, safe to print whatever its names hold.

    With a *width* it is cut there; a narrow line leaves out the kind, the tiers and the stage.
    """
    began_ns, took, where, sizes, who, what = _columns(event)
    verb = str(event.verb) if isinstance(event, Move) else tag_of(event)
    kind = str(_kind(event) or "")
    if width is not None and width < _WIDE:
        line = f"{began_ns / 1e9:10.4f} s {took:>11}  {verb:<9} {sizes:>21}  {what or who}"
    else:
        start = f"{began_ns / 1e9:12.6f} s {took:>11}  {verb:<9} {kind:<9} {where:<14} {sizes:>21}"
        line = f"{start}  {who:<14} {what}"
    line = printable(line).rstrip()
    return line if width is None else _cut(line, width)


def render_events(
    events: Iterable[Event],
    out: TextIO,
    wanted: EventFilter | None = None,
    *,
    as_json: bool = False,
    width: int | None = None,
) -> int:
    """Write the chosen events to *out*, one a line, and return how many there were.

    Lines are cut to *width* cells, if one is given.
    """
    count = 0
    for event in select(events, wanted or EventFilter()):
        line = json.dumps(event_dict(event)) if as_json else event_line(event, width)
        out.write(line + "\n")
        count += 1
    return count


def _cut(line: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return line if cell_len(line) <= width else set_cell_size(line, width - 1) + "…"


def _kind(event: Event) -> Kind | None:
    match event:
        case Move():
            return event.kind
        case Transfer():
            return Kind.WEIGHTS
        case Workspace():
            return Kind.WORKSPACE
        case _:
            return None


def _columns(event: Event) -> tuple[int, str, str, str, str, str]:  # noqa: C901, PLR0911 - one a kind
    match event:
        case Move():
            came = event.source not in ("", event.tier)
            where = f"{event.source}>{event.tier}" if came else event.tier
            what = f"{event.name}  {event.cause}"
            if event.waited_ns:
                what += f"  waited {event.waited_ns / _NS_PER_MS:.3f} ms"
            sizes = _sizes(event.nbytes, event.resident_bytes)
            return event.began_ns, _took(event), where, sizes, _turn(event.stage, event.step), what
        case Transfer():
            what = f"{event.name}  waited {event.waited_ns / _NS_PER_MS:.3f} ms"
            where, turn = f"{event.queue}>{event.tier}", _turn(event.stage, event.step)
            return event.began_ns, _took(event), where, format_bytes(event.nbytes), turn, what
        case Workspace():
            sizes = _sizes(event.nbytes, event.resident_bytes)
            turn = _turn(event.stage, event.step)
            return event.began_ns, _took(event), event.tier, sizes, turn, event.name
        case Step():
            sizes = _sizes(event.measured_peak_bytes, event.resident_bytes)
            what = f"step {event.index} of {event.total}"
            return event.began_ns, _took(event), "", sizes, _turn(event.stage, event.index), what
        case StageSpan():
            sizes, what = format_bytes(event.peak_bytes), " ".join([event.op, *event.knobs])
            return event.began_ns, _took(event), "", sizes, event.stage, what
        case Memory():
            sizes = _sizes(event.peak_bytes, event.now_bytes)
            return event.at_ns, "", event.tier, sizes, "", f"counted by {event.source}"
        case Note():
            return event.at_ns, "", "", "", "", f"{event.topic}: {event.text}"
        case Preview():
            what = f"{event.frames} frames of {event.width}*{event.height}"
            return event.at_ns, "", "", "", _turn(event.stage, event.step), what
        case FootprintRows():
            what = f"variant {event.variant}: {len(event.rows)} rows of {event.section}"
            return 0, "", "", "", "", what


def _took(event: Move | Transfer | Workspace | Step | StageSpan) -> str:
    ms = (event.ended_ns - event.began_ns) / _NS_PER_MS
    return f"{ms:.3f} ms" if abs(ms) < 10_000 else f"{ms / 1000:.3f} s"


def _sizes(nbytes: int, resident_bytes: int) -> str:
    return f"{format_bytes(nbytes)} {format_bytes(resident_bytes):>10}"


def _turn(stage: str, step: int) -> str:
    return f"{stage}[{step}]"
