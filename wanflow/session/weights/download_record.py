"""What a folder holds of a repository: written after each file, so that any stop may come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import attrs

from wanflow.errors import InputError
from wanflow.files.whole import write_json
from wanflow.models.weights.hub import HubFile, Snapshot, is_same

STATE = ".wanflow"  # beside the weights: the record, the lock, files on their way


@attrs.frozen
class Record:
    """The files that came whole, by path; some may be of an earlier commit of the repository."""

    repo: str
    files: Mapping[str, HubFile]


def read_record(folder: Path, repo: str) -> Record:
    """Read what is there of *repo*; InputError where the folder is another repository's."""
    data: object = None
    with suppress(FileNotFoundError, ValueError):
        data = json.loads(_file(folder).read_text("utf-8"))
    try:
        match data:
            case {"repo": str(owner), "files": dict(files)}:
                record = Record(owner, {p: HubFile(p, **about) for p, about in files.items()})
            case _:
                record = Record(repo, {})
    except TypeError:  # not of our writing
        record = Record(repo, {})
    if record.repo != repo:
        raise _taken(folder, f"holds {record.repo}")
    return record


def write_record(folder: Path, snapshot: Snapshot, files: Mapping[str, HubFile]) -> None:
    """Say which commit is fetched, and what came of it."""
    about = {p: {"nbytes": file.nbytes, "digest": file.digest} for p, file in files.items()}
    data = {
        "repo": snapshot.repo,
        "revision": snapshot.revision,
        "commit": snapshot.commit,
        "files": about,
    }
    write_json(_file(folder), data)


def is_there(folder: Path, file: HubFile, record: Record) -> bool:
    """Whether *file* came before; InputError where a file of somebody's own is in its place."""
    path, recorded = folder / file.path, record.files.get(file.path)
    if not path.exists():
        return False
    if recorded is not None and path.stat().st_size == recorded.nbytes:
        return recorded.digest == file.digest  # that its data were right was seen when it came
    if path.is_file() and is_same(path, file):
        return True
    raise _taken(path, "is there, and is not the repository's")


def part_of(folder: Path, file: HubFile) -> Path:
    """A file on its way, named by its content: good for every commit that has it."""
    return folder / STATE / f"{file.digest}.part"


def remove_stale(folder: Path, record: Record, files: Mapping[str, HubFile]) -> None:
    """Remove what an earlier commit had and this one has not: shards would be taken together."""
    for path, file in record.files.items():
        old = folder / path
        if path not in files and old.is_file() and old.stat().st_size == file.nbytes:
            old.unlink()


def _file(folder: Path) -> Path:
    return folder / STATE / "download.json"


def _taken(path: Path, what: str) -> InputError:
    return InputError(
        f"{path}: {what}", hint="give another folder: --to FOLDER", code="other-download"
    )
