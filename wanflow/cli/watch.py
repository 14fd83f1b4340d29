"""`wanflow watch`: a page over a folder of runs."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from wanflow.cli.options import Json
from wanflow.cli.output import note, say, say_json
from wanflow.errors import InputError
from wanflow.terminal.safe import clean

PORT = 8014


def watch(
    runs: Annotated[Path, Argument(metavar="[RUNS]", help="A folder of runs.")] = Path("runs"),
    host: Annotated[
        str, Option(metavar="NAME", help="Listen on this address; 0.0.0.0: on all.")
    ] = "127.0.0.1",
    port: Annotated[
        int, Option(metavar="N", min=0, max=65535, help="Listen on this port; 0: a free one.")
    ] = PORT,
    token: Annotated[
        str | None,
        Option(metavar="TEXT", help="What a visitor must bring; made beyond this computer."),
    ] = None,
    *,
    json: Json = False,
) -> int:
    """Show a folder of runs as a page, read-only: what runs now, what was made, batches."""
    _check(runs)
    from wanflow.watch.serve import listen, serve

    listening = listen(host, port, token)
    if json:
        say_json({"url": listening.url, "folder": str(runs), "token": listening.access.token})
    else:
        say(clean(listening.url))
        note(_told(local=listening.access.local))
    try:
        serve(runs, listening)
    except KeyboardInterrupt:  # that is how it is ended
        return 0
    return 0


def _check(runs: Path) -> None:
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"wanflow watch needs {' and '.join(missing)}",
            hint="pip install 'wanflow[watch]'",
            code="no-extra",
        )
    if not runs.is_dir():
        what = "is a file" if runs.exists() else "there is no such folder"
        raise InputError(
            f"{runs}: {what}", hint="wanflow run makes runs/; or name one", code="no-folder"
        )
    if not os.access(runs, os.R_OK | os.X_OK):
        raise InputError(f"{runs}: may not be read", code="no-folder")


def _told(*, local: bool) -> str:
    if local:
        return "for this computer only; Ctrl-C ends it"
    return "anyone with this address may look, over plain HTTP; Ctrl-C ends it"
