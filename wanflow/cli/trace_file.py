"""What the commands of `wanflow trace` share: the file, and how a record of it is shown."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from wanflow.cli.output import page, say_json

File = Annotated[Path, Argument(metavar="FILE", help="A trace, or the run folder it is in.")]

Rank = Annotated[
    int | None, Option(metavar="N", min=0, help="Of this rank of several; else the first one's.")
]


def trace_of(file: Path) -> Path:
    """Find the trace of a run folder."""
    return file / "trace.msgpack" if file.is_dir() else file


def show(view: str, record: Any, *, json: bool = False, **options: Any) -> int:
    """Print a record as JSON or by its view; rich is loaded only for a view."""
    if json:
        say_json(record.to_dict())
        return 0
    from wanflow.trace import views

    with page() as console:
        getattr(views, f"render_{view}")(record, console, **options)
    return 0
