"""`memory_events.json` beside a run: its trace, as `wanflow trace export --to json` writes it."""

from __future__ import annotations

from pathlib import Path

NAME = "memory_events.json"


def write(trace: Path, folder: Path) -> Path:
    """Export a trace to *folder*; StageFailed when the disk is full."""
    from wanflow.trace.exports import export

    export(trace, "json", folder / NAME)
    return folder / NAME
