"""`wanflow trace`: what a run wrote down."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from wanflow.cli.options import Json
from wanflow.cli.output import clean, lines, note, page, say, say_json
from wanflow.units import format_bytes

app = typer.Typer(
    name="trace", help="Read what a run wrote down.", no_args_is_help=True, rich_markup_mode=None
)
File = Annotated[Path, Argument(metavar="FILE", help="A trace, or the run folder it is in.")]
VerbName = Literal["place", "offload", "stream", "free"]
KindName = Literal["weights", "value", "state", "workspace"]
FormatName = Literal["perfetto", "chrome", "events", "json", "csv", "png", "svg"]


@app.command()
def summary(file: File, *, json: Json = False) -> int:
    """Show times, moves and peak memory of each stage."""
    from wanflow.trace import summarise

    found = summarise(_trace(file))
    if json:
        say_json(found.to_dict())
        return 0
    from wanflow.trace.views import render_summary

    with page() as console:
        render_summary(found, console)
    return 0


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
        render_events(reader, out, wanted, as_json=json)
        if problem := reader.info().problem:
            note(clean(f"note: the trace is {reader.info().state}: {problem}"))
    return 0


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

    made = write_export(_trace(file), wanted, output)
    if made.problem:
        note(clean(f"note: the trace is {made.state}: {made.problem}"))
    if json:
        say_json(attrs.asdict(made))
    else:
        what = f"{made.format}, {format_bytes(made.nbytes)}, {made.events} events"
        say(clean(f"{made.output}  ({what})"))
    return 0


def _trace(file: Path) -> Path:
    """Find the trace of a run folder."""
    return file / "trace.msgpack" if file.is_dir() else file
