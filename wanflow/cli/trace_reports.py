"""`wanflow trace diff`, `check`, `export`, `report` and `replay`: what follows from a trace."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from wanflow.cli.options import Json
from wanflow.cli.output import note, present, say, say_json
from wanflow.cli.trace_file import File, Rank, show, trace_of
from wanflow.errors import DiffExceeded, InputError
from wanflow.terminal.safe import clean
from wanflow.units import format_bytes

LangName = Literal["en", "zh"]
FormatName = Literal["perfetto", "chrome", "events", "json", "csv", "png", "svg"]


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

    old, new = summarise(trace_of(before)), summarise(trace_of(after))
    compared = compare(old, new)
    broken = [said for rule in fail_if or () if (said := exceeded(old, new, rule))]
    if json:
        say_json({**compared.to_dict(), "exceeded": broken})
    else:
        show("diff", compared)
    if broken:
        raise DiffExceeded("; ".join(broken), code="diff-exceeded", detail={"exceeded": broken})
    return 0


def check(
    file: File,
    rank: Annotated[int | None, Option(metavar="N", min=0, help="Only this rank's events.")] = None,
    *,
    json: Json = False,
) -> int:
    """Audit a trace: the file, the bytes on every tier, the budget; exit 2 if anything is wrong."""
    from wanflow.trace.check import check as audit
    from wanflow.trace.check import check_ranks

    path = trace_of(file)
    ranks = [audit(path, rank)] if rank is not None else check_ranks(path)
    ok = all(audited.ok for audited in ranks)
    if json and len(ranks) > 1:
        every = [audited.to_dict() for audited in ranks]
        say_json({**every[0], "ok": ok, "ranks": every})
        return 0 if ok else InputError.exit_code
    for number, audited in enumerate(ranks):
        if len(ranks) > 1:
            say(f"rank {number}")
        show("check", audited, json=json)
    return 0 if ok else InputError.exit_code


def export(
    file: File,
    wanted: Annotated[FormatName, Option("--format", "--to", help="The format to write.")],
    output: Annotated[
        Path, Option("--output", "-o", metavar="FILE", help="Where to; a file there is replaced.")
    ],
    rank: Rank = None,
    *,
    json: Json = False,
) -> int:
    """Write a trace for other programs: Perfetto, tables, pictures."""
    import attrs

    from wanflow.trace.exports import export as write_export

    done = write_export(trace_of(file), wanted, output, rank or 0)
    if done.problem:
        note(clean(f"note: the trace is {done.state}: {done.problem}"))
    if json:
        say_json(attrs.asdict(done))
    else:
        what = f"{done.format}, {format_bytes(done.nbytes)}, {done.events} events"
        say(clean(f"{done.output}  ({what})"))
    return 0


def report(
    file: Annotated[
        Path, Argument(metavar="FILE", help="A trace, a run folder, or a memory_events.json.")
    ],
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE", help="A .md or a .html file.")
    ] = None,
    lang: Annotated[LangName, Option(help="The language of the report.")] = "en",
    rank: Rank = None,
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

    path = trace_of(file)
    if is_memory_log(path):
        header, events = read_memory_log(path)
        analysis = facts_of(lambda: events, header)
    else:
        analysis = facts(path, rank or 0)
        with TraceReader(path, rank or 0) as reader:
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

    replayed = session.replay(trace_of(file), vram=vram, ram=ram, machine=machine)
    present(replayed.report, lambda console: render(replayed.report, console), json=json)
    if replayed.problem is not None:
        raise replayed.problem
    return 0
