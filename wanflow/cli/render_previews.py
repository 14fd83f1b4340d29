"""What a plan says of previews, a line a stage."""

from collections.abc import Iterator, Mapping
from typing import Any

from wanflow.terminal.safe import clean
from wanflow.units import format_bytes, format_seconds


def preview_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Say how many a stage makes, how large they are and what they take."""
    for stage in report["stages"]:
        if previews := stage.get("previews"):
            steps, count = stage.get("steps") or 1, len(previews["steps"])
            size = f"{previews['frames']} frames of {previews['width']}*{previews['height']}"
            room = format_bytes(previews["workspace_bytes"])
            took = format_seconds(previews["seconds"])
            text = f"{stage['stage']}: previews at {count} of {steps} steps, {size}"
            yield clean(f"{text}; {room} each, below the step's peak, {took} in all")
