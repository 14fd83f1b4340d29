"""What `wanflow batch` says when it is done."""

from collections.abc import Mapping
from shlex import quote
from typing import Any

from wanflow.terminal.safe import clean

_SHOWN = 10  # failures that are told one by one


def render(done: Mapping[str, Any]) -> str:
    """Say what was made, which rows failed and why, and what to type next."""
    failures = done["failures"]
    made, count = done["done"], done["count"]
    lines = [f"made {made} of {count} rows in {done['out']}"]
    if stopped := done.get("stopped"):
        lines.append(f"{stopped} stopped where they should: each has preview.png in its folder")
    lines += [_failure(entry) for entry in failures[:_SHOWN]]
    if len(failures) > _SHOWN:
        lines.append(f"and {len(failures) - _SHOWN} more, in {done['table']}")
    out = quote(str(done["out"]))
    goes_on = failures or stopped
    lines.append(f"next: wanflow resume {out}" if goes_on else f"table: {done['table']}")
    return clean("\n".join(lines))


def _failure(entry: Mapping[str, Any]) -> str:
    return f"row {entry['row']} (line {entry['line']}) failed: {entry.get('error', '')}"
