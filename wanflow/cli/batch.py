"""`wanflow batch`: the rows of a file, each a run of one graph."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
from typer import Argument, Option

from wanflow.cli.options import Json, Until, takes_request
from wanflow.cli.output import say, say_json

if TYPE_CHECKING:
    from wanflow.session import Request


@takes_request
def batch(
    request: "Request",
    rows: Annotated[
        Path,
        Argument(
            metavar="ROWS", help="A .txt (a prompt a line), .csv or .jsonl: a row sets inputs."
        ),
    ],
    out: Annotated[
        Path | None,
        Option(metavar="DIR", help="A folder for all rows. [default: runs/<graph>-batch-<time>]"),
    ] = None,
    *,
    keep_going: Annotated[
        bool,
        Option("--keep-going/--stop", help="What to do after a row that failed."),
    ] = True,
    ray: Annotated[
        str | None,
        Option(
            "--ray",
            metavar="auto|local|HOST:PORT",
            help="Make rows on a Ray cluster, one at a time on each GPU, else on each CPU.",
        ),
    ] = None,
    until: Until = "",
    no_metadata: Annotated[
        bool, Option("--no-metadata", help="Put nothing into the videos of what made them.")
    ] = False,
    force: Annotated[bool, Option("--force", help="Use a folder that holds something.")] = False,
    json: Json = False,
) -> int:
    """Run GRAPH for every row of a file, weights staying where they are."""
    from wanflow.cli.batch_progress import watch_rows
    from wanflow.cli.render_batch import render
    from wanflow.session.batch.batch import Options, batch

    request = attrs.evolve(request, metadata=not no_metadata, until=until)
    with watch_rows(silent=json) as watch:
        done = batch(
            request, rows, out=out, options=Options(keep_going, ray), force=force, watch=watch
        )
    say_json(done) if json else say(render(done))
    return 1 if done["failures"] else 0
