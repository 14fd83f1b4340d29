"""`wanflow resume`: go on with a run that was cut short."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from wanflow.cli.options import AllowNonfinite, Every, Json, Until
from wanflow.cli.output import say, say_json


def resume(
    run: Annotated[
        Path, Argument(metavar="RUN", help="The folder of a run or a batch that was cut short.")
    ],
    *,
    devices: Annotated[
        str, Option(metavar="LIST", help="Go on on other devices: cuda:0,cuda:1, or cpu*2.")
    ] = "",
    allow_nonfinite: AllowNonfinite = False,
    ray: Annotated[
        str | None,
        Option(
            "--ray",
            metavar="auto|local|HOST:PORT|none",
            help="Go on with a batch on another Ray cluster, or on none.",
        ),
    ] = None,
    preview: Annotated[
        bool | None,
        Option(help="Previews of the steps to come; else as it was begun.", show_default=False),
    ] = None,
    preview_every: Every = None,
    until: Until = "",
    json: Json = False,
) -> int:
    """Go on with a run from its last finished step, with a batch from the rows it lacks."""
    from wanflow import session
    from wanflow.cli.progress import silent, watch
    from wanflow.cli.render_run import render

    every = preview_every if preview is None else int(preview) and (preview_every or 1)
    if session.is_batch(run):
        return _resume_batch(run, ray, every, until, json=json)
    with silent() if json else watch() as progress:
        done = session.resume(
            run, sink=progress, allow_nonfinite=allow_nonfinite, devices=devices,
            preview_every=every, until=until,
        )  # fmt: skip
    say_json(done) if json else say(render(done))
    return 0


def _resume_batch(
    folder: Path, ray: str | None, every: int | None, until: str, *, json: bool
) -> int:
    from wanflow.cli.batch_progress import watch_rows
    from wanflow.cli.render_batch import render
    from wanflow.session.batch.batch import resume_batch

    with watch_rows(silent=json) as watch:
        done = resume_batch(folder, watch=watch, ray=ray, preview_every=every, until=until)
    say_json(done) if json else say(render(done))
    return 1 if done["failures"] else 0
