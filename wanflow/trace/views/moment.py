"""Who is on a tier at one instant, on a terminal."""

from __future__ import annotations

import attrs
from rich.console import Console

from wanflow.terminal.layout import Column, duration, flow, size, table
from wanflow.terminal.safe import printable
from wanflow.trace.moment import Moment
from wanflow.units import format_bytes, format_seconds

_BAR = 20


@attrs.frozen
class _KindRow:
    name: str
    nbytes: int
    whole: int


_PARTS = (
    Column("", lambda part: part.name, justify="left"),
    Column("bytes", lambda part: format_bytes(part.nbytes)),
    Column("share", lambda part: f"{part.nbytes / part.whole:.0%}" if part.whole else "-"),
    Column("", lambda part: "#" * round(_BAR * part.nbytes / max(1, part.whole)), justify="left"),
)
_OBJECTS = (
    Column("object", lambda o: printable(o.name), justify="left"),
    Column("bytes", lambda o: format_bytes(o.nbytes)),
    Column("kind", lambda o: o.kind, justify="left"),
    Column("for", lambda o: f"{printable(o.stage) or '(run)'}[{o.step}]", justify="left"),
    Column("since", lambda o: format_seconds(o.since_seconds)),
)


def render_moment(moment: Moment, console: Console, *, rows: int = 15) -> None:
    """Print *moment*: how much, of what kind, for which stage, and the largest objects."""
    at, where = duration(moment.at_seconds), f"{printable(moment.stage) or '(run)'}[{moment.step}]"
    start = f"{size(moment.resident_bytes)} on {printable(moment.tier)} at {at}"
    flow(console, [start, f"in {where}"], style="bold")
    total = moment.resident_bytes
    kinds = [_KindRow(name, nbytes, total) for name, nbytes in moment.by_kind.words().items()]
    stages = [
        _KindRow(printable(name) or "(run)", nbytes, total)
        for name, nbytes in moment.by_stage.items()
        if nbytes
    ]
    for title, parts in (("by kind", kinds), ("by stage", stages)):
        if parts:
            named = (attrs.evolve(_PARTS[0], title=title), *_PARTS[1:])
            console.print(table(parts, named, console.width, grow=True))
    if moment.objects:
        console.print(table(moment.objects[:rows], _OBJECTS, console.width, grow=True))
    if len(moment.objects) > rows:
        rest = sum(resident.nbytes for resident in moment.objects[rows:])
        flow(console, [f"and {len(moment.objects) - rows} more with {size(rest)}: --rows"])
