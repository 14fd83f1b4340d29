"""The typer app: the groups and what `wanflow --help` says about the whole."""

from typing import Annotated

import typer

from wanflow import __version__
from wanflow.cli import (
    batch,
    doctor,
    explain,
    generate,
    graph,
    machine,
    models,
    plan,
    resume,
    run,
    scenarios,
    trace,
    watch,
)
from wanflow.cli.output import say

EXIT_CODES = """\b
Exit codes:
    0  done
    1  a stage failed, or the disk is full
    2  the input is wrong (graph, option, image, a run folder that changed)
    3  the budget can't hold it; the message names the smallest that can
    4  weights are missing, or are not what the graph says; a trace lacks its footprint
    5  a diff is past its threshold, or a scenario does not hold
    6  out of memory in spite of the plan
   70  our own fault; the message names a crash log
  130  interrupted        143  terminated, state saved

\b
Results go to stdout; progress and errors to stderr. Read from the environment:
WANFLOW_VRAM, WANFLOW_DEVICE, WANFLOW_MODELS (folders with weights), NO_COLOR.
"""


def version(*, wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        say(f"wanflow {__version__}")
        raise typer.Exit


def root(
    *,
    _: Annotated[
        bool,
        typer.Option("--version", callback=version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """Video generation inside a memory budget, planned before a byte is moved."""


app = typer.Typer(
    callback=root,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: half the start-up time, and it pipes well
)
app.command("run")(run.run)
app.command("batch")(batch.batch)
app.command(
    "generate",
    add_help_option=False,  # its own parser's, with all flags
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(generate.generate)
app.command("resume")(resume.resume)
app.command("plan")(plan.plan)
app.command("explain")(explain.explain)
app.command("scenarios")(scenarios.scenarios)
app.add_typer(graph.app, name="graph")
app.add_typer(trace.app, name="trace")
app.add_typer(machine.app, name="machine")
app.add_typer(models.app, name="models")
app.command("watch")(watch.watch)
app.command("doctor")(doctor.doctor)
