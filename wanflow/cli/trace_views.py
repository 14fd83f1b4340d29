"""`wanflow trace summary`, `events`, `stages`, `timeline`, `peak`, `live`: a trace on a screen."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from wanflow.cli.options import Json
from wanflow.cli.output import lines, note, page, say_json, terminal_width
from wanflow.cli.trace_file import File, Rank, show, trace_of
from wanflow.errors import InputError
from wanflow.terminal.safe import clean
from wanflow.units import format_seconds

if TYPE_CHECKING:
    from wanflow.trace import Summary

Tier = Annotated[
    str | None, Option(metavar="NAME", help="Of this tier; else the one with the budget.")
]
VerbName = Literal["place", "offload", "stream", "free"]
KindName = Literal["weights", "value", "state", "workspace"]


def summary(file: File, rank: Rank = None, *, json: Json = False) -> int:
    """Show times, moves and peak memory of each stage; of several ranks side by side."""
    from wanflow.trace.summary import summarise, summarise_ranks

    path = trace_of(file)
    ranks = [summarise(path, rank)] if rank is not None else summarise_ranks(path)
    if json and len(ranks) > 1:
        say_json({**ranks[0].to_dict(), "ranks": [one.to_dict() for one in ranks]})
        return 0
    return _show_ranks(ranks, json=json)


def _show_ranks(ranks: "Sequence[Summary]", *, json: bool = False) -> int:
    shown = show("summary", ranks[0], json=json)
    return show("ranks", ranks) if len(ranks) > 1 else shown


def events(
    file: File,
    verb: Annotated[VerbName | None, Option(help="Only moves of this verb.")] = None,
    kind: Annotated[KindName | None, Option(help="Only what concerns this kind of bytes.")] = None,
    stage: Annotated[str | None, Option(metavar="NAME", help="Only this stage.")] = None,
    name: Annotated[str | None, Option(metavar="PART", help="Only names that have PART.")] = None,
    limit: Annotated[int | None, Option(metavar="N", min=1, help="The first N of them.")] = None,
    rank: Rank = None,
    *,
    json: Annotated[bool, Option("--json", help="One JSON object a line.")] = False,
) -> int:
    """List every move and step, one a line."""
    from wanflow.trace import EventFilter, TraceReader, render_events
    from wanflow.trace.events import Kind, Verb

    wanted = EventFilter(
        Verb(verb) if verb else None, Kind(kind) if kind else None, stage, name, limit
    )
    with TraceReader(trace_of(file), rank or 0) as reader, lines() as out:
        render_events(reader, out, wanted, as_json=json, width=terminal_width(out))
        if problem := reader.info().problem:
            note(clean(f"note: the trace is {reader.info().state}: {problem}"))
    return 0


def stages(file: File, rank: Rank = None, *, json: Json = False) -> int:
    """Show what each stage's peak is made of, and where its time went."""
    from wanflow.trace import read, summarise
    from wanflow.trace.stage_peaks import stage_loads
    from wanflow.trace.unreplaced import unreplaced

    path = trace_of(file)
    with unreplaced(path):
        summary = summarise(path, rank or 0)
        loads = stage_loads(read(path, rank or 0), summary.stages, summary.budget_tier or "")
    if json:
        say_json({"tier": summary.budget_tier, "stages": [load.to_dict() for load in loads]})
        return 0
    return show("stages", loads)


def timeline(
    file: File,
    tier: Tier = None,
    stage: Annotated[str | None, Option(metavar="NAME", help="Only its time.")] = None,
    rows: Annotated[int, Option(metavar="N", min=1, help="So many objects.")] = 20,
    rank: Rank = None,
    *,
    json: Json = False,
) -> int:
    """Draw memory over time: the budget, and a row an object."""
    from wanflow.trace import read, summarise
    from wanflow.trace.timeline import timeline as draw

    path, of_rank = trace_of(file), rank or 0
    summary = summarise(path, of_rank)
    where = tier or summary.budget_tier or ""
    held = where == summary.budget_tier
    budget, aside = (summary.budget_bytes, summary.overhead_bytes) if held else (None, 0)
    drawing = partial(
        draw,
        lambda: read(path, of_rank),
        where,
        budget,
        overhead_bytes=aside,
        rows=rows,
        stage=stage,
    )
    if json:
        say_json(drawing().to_dict())
        return 0
    from wanflow.trace.views.timeline import cells_for, render_timeline

    with page() as console:
        render_timeline(drawing(cells=cells_for(console.width)), console)
    return 0


def peak(
    file: File,
    at: Annotated[
        str | None, Option("--at", metavar="TIME", help="Then, not at the peak: 12.3s, 3:38.")
    ] = None,
    tier: Tier = None,
    rows: Annotated[int, Option(metavar="N", min=1, help="So many objects.")] = 15,
    rank: Rank = None,
    *,
    json: Json = False,
) -> int:
    """Show who was there at the peak, by stage and by kind."""
    from wanflow.trace import read, summarise
    from wanflow.trace.moment import moment_at, peak_moment
    from wanflow.trace.unreplaced import unreplaced
    from wanflow.units import parse_seconds

    path, of_rank = trace_of(file), rank or 0
    with unreplaced(path):
        run = summarise(path, of_rank)
        where = tier or run.budget_tier or ""
        if at is None:
            moment = peak_moment(lambda: read(path, of_rank), where)
        elif (seconds := parse_seconds(at, "--at")) > run.seconds:
            over = f"{path} ends at {format_seconds(run.seconds)}"
            raise InputError(over, hint="give an earlier --at", code="nothing-there")
        else:
            moment = moment_at(lambda: read(path, of_rank), where, round(seconds * 1e9))
    if moment is None:
        raise InputError(
            f"{path}: nothing was on {where or 'any tier'}" + (f" at {at}" if at else ""),
            hint="wanflow trace check FILE lists the tiers",
            code="nothing-there",
        )
    return show("moment", moment, json=json, rows=rows)


def live(file: File) -> int:
    """Follow a run from another terminal: its summary, until it is over; all ranks of several."""
    from rich.console import Console

    from wanflow.cli.live import follow

    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    return _show_ranks(follow(trace_of(file), console))
