"""`wanflow trace`: what a run wrote down."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from wanflow.cli.options import Json
from wanflow.cli.output import lines, note, page, present, say, say_json, terminal_width
from wanflow.errors import DiffExceeded, InputError
from wanflow.terminal.safe import clean
from wanflow.units import format_bytes, format_seconds

app = typer.Typer(
    name="trace", help="Read what a run wrote down.", no_args_is_help=True, rich_markup_mode=None
)
File = Annotated[Path, Argument(metavar="FILE", help="A trace, or the run folder it is in.")]
Tier = Annotated[
    str | None, Option(metavar="NAME", help="Of this tier; else the one with the budget.")
]
VerbName = Literal["place", "offload", "stream", "free"]
LangName = Literal["en", "zh"]
KindName = Literal["weights", "value", "state", "workspace"]
FormatName = Literal["perfetto", "chrome", "events", "json", "csv", "png", "svg"]


@app.command()
def summary(file: File, *, json: Json = False) -> int:
    """Show times, moves and peak memory of each stage."""
    from wanflow.trace import summarise

    return _show("summary", summarise(_trace(file)), json=json)


@app.command()
def events(
    file: File,
    verb: Annotated[VerbName | None, Option(help="Only moves of this verb.")] = None,
    kind: Annotated[KindName | None, Option(help="Only what concerns this kind of bytes.")] = None,
    stage: Annotated[str | None, Option(metavar="NAME", help="Only this stage.")] = None,
    name: Annotated[str | None, Option(metavar="PART", help="Only names that have PART.")] = None,
    limit: Annotated[int | None, Option(metavar="N", min=1, help="The first N of them.")] = None,
    *,
    json: Annotated[bool, Option("--json", help="One JSON object a line.")] = False,
) -> int:
    """List every move and step, one a line."""
    from wanflow.trace import EventFilter, TraceReader, render_events
    from wanflow.trace.events import Kind, Verb

    wanted = EventFilter(
        Verb(verb) if verb else None, Kind(kind) if kind else None, stage, name, limit
    )
    with TraceReader(_trace(file)) as reader, lines() as out:
        render_events(reader, out, wanted, as_json=json, width=terminal_width(out))
        if problem := reader.info().problem:
            note(clean(f"note: the trace is {reader.info().state}: {problem}"))
    return 0


@app.command()
def stages(file: File, *, json: Json = False) -> int:
    """Show what each stage's peak is made of, and where its time went."""
    from wanflow.trace import read, summarise
    from wanflow.trace.stage_peaks import stage_loads

    path = _trace(file)
    summary = summarise(path)
    loads = stage_loads(read(path), summary.stages, summary.budget_tier or "")
    if json:
        say_json({"tier": summary.budget_tier, "stages": [load.to_dict() for load in loads]})
        return 0
    return _show("stages", loads)


@app.command()
def timeline(
    file: File,
    tier: Tier = None,
    stage: Annotated[str | None, Option(metavar="NAME", help="Only its time.")] = None,
    rows: Annotated[int, Option(metavar="N", min=1, help="So many objects.")] = 20,
    *,
    json: Json = False,
) -> int:
    """Draw memory over time: the budget, and a row an object."""
    from wanflow.trace import read, summarise
    from wanflow.trace.timeline import timeline as draw

    path = _trace(file)
    summary = summarise(path)
    where = tier or summary.budget_tier or ""
    budget = summary.budget_bytes if where == summary.budget_tier else None
    drawing = partial(draw, lambda: read(path), where, budget, rows=rows, stage=stage)
    if json:
        say_json(drawing().to_dict())
        return 0
    from wanflow.trace.views.timeline import cells_for, render_timeline

    with page() as console:
        render_timeline(drawing(cells=cells_for(console.width)), console)
    return 0


@app.command()
def peak(
    file: File,
    at: Annotated[
        str | None, Option("--at", metavar="TIME", help="Then, not at the peak: 12.3s, 3:38.")
    ] = None,
    tier: Tier = None,
    rows: Annotated[int, Option(metavar="N", min=1, help="So many objects.")] = 15,
    *,
    json: Json = False,
) -> int:
    """Show who was there at the peak, by stage and by kind."""
    from wanflow.trace import read, summarise
    from wanflow.trace.moment import moment_at, peak_moment
    from wanflow.units import parse_seconds

    path = _trace(file)
    run = summarise(path)
    where = tier or run.budget_tier or ""
    if at is None:
        moment = peak_moment(lambda: read(path), where)
    elif (seconds := parse_seconds(at, "--at")) > run.seconds:
        over = f"{path} ends at {format_seconds(run.seconds)}"
        raise InputError(over, hint="give an earlier --at", code="nothing-there")
    else:
        moment = moment_at(lambda: read(path), where, round(seconds * 1e9))
    if moment is None:
        raise InputError(
            f"{path}: nothing was on {where or 'any tier'}" + (f" at {at}" if at else ""),
            hint="wanflow trace check FILE lists the tiers",
            code="nothing-there",
        )
    return _show("moment", moment, json=json, rows=rows)


@app.command()
def diff(
    before: File,
    after: File,
    fail_if: Annotated[
        list[str] | None,
        Option("--fail-if", metavar="RULE", help="Exit 5 if it holds: peak>+2%, decode.seconds>3s"),
    ] = None,
    *,
    json: Json = False,
) -> int:
    """Compare two traces, what changed most first; a plan's is one too."""
    from wanflow.trace import summarise
    from wanflow.trace.diff import diff as compare
    from wanflow.trace.diff import exceeded

    old, new = summarise(_trace(before)), summarise(_trace(after))
    compared = compare(old, new)
    broken = [said for rule in fail_if or () if (said := exceeded(old, new, rule))]
    if json:
        say_json({**compared.to_dict(), "exceeded": broken})
    else:
        _show("diff", compared)
    if broken:
        raise DiffExceeded("; ".join(broken), code="diff-exceeded", detail={"exceeded": broken})
    return 0


@app.command()
def check(file: File, *, json: Json = False) -> int:
    """Audit a trace: the file, the bytes on every tier, the budget; exit 2 if anything is wrong."""
    from wanflow.trace.check import check as audit

    result = audit(_trace(file))
    _show("check", result, json=json)
    return 0 if result.ok else InputError.exit_code


@app.command()
def export(
    file: File,
    wanted: Annotated[FormatName, Option("--format", "--to", help="The format to write.")],
    output: Annotated[
        Path, Option("--output", "-o", metavar="FILE", help="Where to; a file there is replaced.")
    ],
    *,
    json: Json = False,
) -> int:
    """Write a trace for other programs: Perfetto, tables, pictures."""
    import attrs

    from wanflow.trace.exports import export as write_export

    done = write_export(_trace(file), wanted, output)
    if done.problem:
        note(clean(f"note: the trace is {done.state}: {done.problem}"))
    if json:
        say_json(attrs.asdict(done))
    else:
        what = f"{done.format}, {format_bytes(done.nbytes)}, {done.events} events"
        say(clean(f"{done.output}  ({what})"))
    return 0


@app.command()
def live(file: File) -> int:
    """Follow a run from another terminal: its summary, until it is over."""
    from rich.console import Console

    from wanflow.cli.live import follow

    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    return _show("summary", follow(_trace(file), console))


@app.command()
def report(
    file: Annotated[
        Path, Argument(metavar="FILE", help="A trace, a run folder, or a memory_events.json.")
    ],
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE", help="A .md or a .html file.")
    ] = None,
    lang: Annotated[LangName, Option(help="The language of the report.")] = "en",
    *,
    advice: Annotated[
        bool, Option("--advice/--no-advice", help="Plan changes to the run, and tell what pays.")
    ] = True,
    quick: Annotated[
        bool, Option("--quick", help="Leave changes out that take minutes to plan.")
    ] = False,
    json: Json = False,
) -> int:
    """Analyse a run: models, peak, steps, waiting, and what to do, each change planned."""
    from wanflow.trace import TraceReader
    from wanflow.trace.exports.target import writing
    from wanflow.trace.memory_log import is_memory_log, read_memory_log
    from wanflow.trace.report import facts, html, markdown
    from wanflow.trace.report.facts import facts_of

    path = _trace(file)
    if is_memory_log(path):
        header, events = read_memory_log(path)
        analysis = facts_of(lambda: events, header)
    else:
        analysis = facts(path)
        with TraceReader(path) as reader:
            header = reader.header
    advised = None
    if advice:
        from wanflow.session import advise

        advised = advise(header, quick=quick)
    if json:
        say_json({**analysis.to_dict(), "advice": None if advised is None else advised.to_dict()})
        if output is None:
            return 0
    as_html = output is not None and output.suffix.lower() in (".html", ".htm")
    text = (html if as_html else markdown)(analysis, advised, lang)
    if output is None:
        say(text)
    else:
        with writing(output, path) as out:
            out.write(text.encode())
        note(clean(f"wrote {output}"))
    return 0


@app.command()
def replay(
    file: File,
    vram: Annotated[str | None, Option(metavar="SIZE", help="8GiB, 8GB, 80% or auto.")] = None,
    ram: Annotated[
        str | None, Option(metavar="SIZE", help="Bound on pinned and staged host memory.")
    ] = None,
    machine: Annotated[
        str | None, Option(metavar="NAME", help="Another machine of the same kind.")
    ] = None,
    *,
    json: Json = False,
) -> int:
    """Plan a recorded run again, on another budget or machine."""
    from wanflow import session
    from wanflow.cli.render_replay import render

    replayed = session.replay(_trace(file), vram=vram, ram=ram, machine=machine)
    present(replayed.report, lambda console: render(replayed.report, console), json=json)
    if replayed.problem is not None:
        raise replayed.problem
    return 0


def _show(view: str, record: Any, *, json: bool = False, **options: Any) -> int:
    """Print a record as JSON or by its view; rich is loaded only for a view."""
    if json:
        say_json(record.to_dict())
        return 0
    from wanflow.trace import views

    with page() as console:
        getattr(views, f"render_{view}")(record, console, **options)
    return 0


def _trace(file: Path) -> Path:
    """Find the trace of a run folder."""
    return file / "trace.msgpack" if file.is_dir() else file
