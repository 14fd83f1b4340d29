"""What a run folder must be: read while it is cut, and in the end as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import attrs

from scripts.campaign.cases import OUT
from scripts.campaign.forks import Disk, Ended
from wanflow.errors import WanflowError
from wanflow.trace import TraceReader

# A run that went on has the traces before it, a batch those of its passes over the prompts.
_TRACES = re.compile(
    r"trace-\d+(\.msgpack)?$|^prompts-\d+/(plan\.json|run\.json|trace(-\d+)?\.msgpack)$"
)
_PRODUCTS = (".mp4", ".png", ".safetensors")
_PREVIEWS = ("preview.png", "preview.webp")


@attrs.frozen
class Whole:
    """What is left of a command that nobody stopped."""

    names: frozenset[str]
    products: dict[str, str]  # digests
    frames: frozenset[str]  # digests, one a video
    cpu_seconds: float
    operations: int


def names_of(folder: Path) -> frozenset[str]:
    """Name the files of a run folder, traces of earlier tries left out."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return frozenset(name for name in paths if not _TRACES.search(name))


def products_of(folder: Path) -> dict[str, str]:
    """Digest what a run is for; a preview is of the last step, and is one too."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in _PRODUCTS and "state" not in path.parts
        and not path.name.startswith(".")
    }  # fmt: skip


def whole_of(disk: Disk, ended: Ended, operations: int) -> Whole:
    """Take a command that ended well as what others are held to."""
    folder = disk.work / OUT
    if ended.code:
        raise SystemExit(f"the command that nobody stopped ended with {ended.code}: {ended.err}")
    return Whole(names_of(folder), products_of(folder), disk.frames, ended.cpu_seconds, operations)


def differences(disk: Disk, whole: Whole) -> list[str]:
    """Say in what a finished folder is not the one that was never cut."""
    folder, problems = disk.work / OUT, []
    names, products = names_of(folder), products_of(folder)
    if names != whole.names:
        more, less = sorted(names - whole.names), sorted(whole.names - names)
        problems.append(f"files that should not be there {more}, that are missing {less}")
    for name, digest in whole.products.items():
        if products.get(name, digest) != digest:
            problems.append(f"{name} is another file")
    if not disk.frames <= whole.frames:
        problems.append("other frames were encoded")
    return problems


def unread_traces(folder: Path, *, cut: bool) -> list[str]:
    """Read all traces up to their ends; what can't be. After a power *cut* a header may be lost."""
    problems = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or not (path.suffix == ".msgpack" or "prompts-" in path.name):
            continue
        try:
            with TraceReader(path) as reader:
                count = len(list(reader))
                if reader.info().records != count:
                    problems.append(f"{path.name}: {count} events of {reader.info().records}")
        except WanflowError as error:
            if path.stat().st_size and not cut:
                problems.append(f"{path.name}: {error}")
    return problems


def is_done(folder: Path) -> bool:
    """Whether the folder says that all was made."""
    for name in ("batch.json", "run.json"):
        report = read_json(folder / name)
        if report is not None:
            return bool(report.get("status") == "done")
    return False


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a report; None where there is none, or half of one."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def error_of(ended: Ended) -> dict[str, Any] | None:
    """Give what a command with `--json` says went wrong, if that is one object and no more."""
    try:
        error = json.loads(ended.err)["error"]
    except (ValueError, KeyError, TypeError):
        return None
    return error if isinstance(error, dict) and error.get("message") else None
