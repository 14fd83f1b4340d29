"""`wanflow models`: look at weights on disk."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

from wanflow.cli.options import Json
from wanflow.cli.output import page, say_json

app = typer.Typer(
    name="models", help="Look at weights.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def group() -> None:
    """Look at weights."""


@app.command()
def inspect(
    path: Annotated[
        Path, Argument(metavar="PATH", help="A folder of diffusers or of Wan2.1, or a file.")
    ],
    *,
    json: Json = False,
) -> int:
    """Say what weights are, which graphs they serve and what they lack; nothing is loaded."""
    from wanflow.cli.render_models import as_data, render
    from wanflow.session import inspecting

    found = inspecting.inspect(path)
    if json:
        say_json(as_data(found))
    else:
        with page() as console:
            render(found, console)
    return 0 if found.is_whole else 4
