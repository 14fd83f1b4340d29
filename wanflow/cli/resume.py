"""`wanflow resume`: go on with a run that was cut short."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from wanflow.cli.options import AllowNonfinite, Json
from wanflow.cli.output import say, say_json


def resume(
    run: Annotated[Path, Argument(metavar="RUN", help="The folder of a run that was cut short.")],
    *,
    allow_nonfinite: AllowNonfinite = False,
    json: Json = False,
) -> int:
    """Go on with a run, from its last finished step."""
    from wanflow import session
    from wanflow.cli.progress import silent, watch
    from wanflow.cli.render_run import render

    with silent() if json else watch() as progress:
        done = session.resume(run, sink=progress, allow_nonfinite=allow_nonfinite)
    say_json(done) if json else say(render(done))
    return 0
