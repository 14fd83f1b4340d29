"""`wanflow run`: plan, run the plan, write the video and the trace."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
from typer import Option

from wanflow.cli.options import Json, Until, takes_request
from wanflow.cli.output import say, say_json

if TYPE_CHECKING:
    from wanflow.session import Request


@takes_request
def run(
    request: "Request",
    out: Annotated[
        Path | None, Option(metavar="DIR", help="Run folder. [default: runs/<graph>-<time>]")
    ] = None,
    *,
    no_metadata: Annotated[
        bool, Option("--no-metadata", help="Put nothing into the video of what it was made from.")
    ] = False,
    force: Annotated[bool, Option("--force", help="Use a run folder that is there.")] = False,
    until: Until = "",
    live: Annotated[bool, Option("--live", help="Show the trace's summary while it runs.")] = False,
    json: Json = False,
) -> int:
    """Run GRAPH inside the budget; write video and trace."""
    from wanflow import session
    from wanflow.cli.live import watch_live
    from wanflow.cli.progress import silent, watch
    from wanflow.cli.render_run import render

    request = attrs.evolve(request, metadata=not no_metadata, until=until)
    with silent() if json else watch_live() if live else watch() as progress:
        done = session.run(request, out=out, force=force, sink=progress)
    say_json(done) if json else say(render(done))
    return 0
