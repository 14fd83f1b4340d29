"""`memory_events.json` beside a run: what `wanflow trace export --to json` makes of its trace."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from wanflow.errors import InputError

NAME = "memory_events.json"


def check() -> None:
    """InputError, before anything runs, where no trace can be exported."""
    if _export() is None:
        raise InputError(
            "--profile_memory: is not served yet: a trace can't be exported",
            hint="leave it out; wanflow trace events RUN --json lists every move",
            code="flag-not-served",
        )


def write(trace: Path, folder: Path) -> Path:
    """Export a trace to *folder*; what the command says of it is not repeated."""
    check()
    target = folder / NAME
    words = [str(trace), "--to", "json", "--output", str(target)]
    with redirect_stdout(io.StringIO()):
        _export().main(words, prog_name="wanflow trace export", standalone_mode=False)
    return target


def _export() -> Any:
    from typer.main import get_command

    from wanflow.cli import trace

    return getattr(get_command(trace.app), "commands", {}).get("export")
