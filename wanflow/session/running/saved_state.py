"""What a run saves so that it can go on: the values alive after a step, and what they belong to.

The values that a step leaves are one safetensors file, written once; `index.json`, renamed into
place last, says in which file each value of the latest step is. A kill between the two leaves the
step before. What was loaded is written anew under other names: another plan may number its values
in another way.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from wanflow.errors import InputError, StageFailed
from wanflow.files.whole import FREE_SPACE, make_folders, unwritable, write_json, writing

_VERSION = 2
_INDEX = "index.json"
_GONE = (FileNotFoundError, IsADirectoryError, RecursionError)
_UNREADABLE = (OSError, MemoryError, RuntimeError)  # the last is torch's, where it can't map a file
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, SafetensorError)


@attrs.frozen
class Boundary:
    """The point after a step of a stage."""

    stage: str
    step: int


@attrs.frozen
class Saved:
    """A boundary and the values that were alive after it, by name."""

    boundary: Boundary
    values: Mapping[str, torch.Tensor]


@attrs.define
class StateStore:
    """The state of one run in its folder's `state/`."""

    folder: Path
    _files: dict[str, str] = attrs.field(factory=dict, init=False)  # of values, by number
    _digests: dict[str, str] = attrs.field(factory=dict, init=False)  # of files
    _generation: int = attrs.field(default=0, init=False)

    @property
    def holds_any(self) -> bool:
        """Whether there is a step to go on from."""
        return (self.folder / _INDEX).is_file()

    def save(self, boundary: Boundary, values: Mapping[str, tuple[int, torch.Tensor]]) -> None:
        """Save *values* (by name: number and tensor) as the state after *boundary*.

        A value whose number was saved before is not written again. StageFailed when the disk is
        full: the state that was there stays.
        """
        keys = {name: f"value.{number}" for name, (number, _) in values.items()}  # some are alike
        new = {keys[n]: t for n, (_, t) in values.items() if keys[n] not in self._files}
        try:
            make_folders(self.folder)
            if new:
                self._write(f"{boundary.stage}.{boundary.step}.{self._generation}.safetensors", new)
        except OSError as error:
            raise unwritable(self.folder, error, code="state-unwritable") from None
        except SafetensorError as error:  # it has no errno: a full disk is most of them
            raise StageFailed(
                f"{self.folder}: {error}", hint=FREE_SPACE, code="state-unwritable"
            ) from None
        files = {key: self._files[key] for key in keys.values()}
        digests = {file: self._digests[file] for file in files.values()}
        index = {
            "version": _VERSION, "generation": self._generation, **attrs.asdict(boundary),
            "values": {name: {"file": files[key], "key": key} for name, key in keys.items()},
            "sha256": digests,
        }  # fmt: skip
        write_json(self.folder / _INDEX, index)
        if digests.keys() != self._digests.keys():
            self._sweep(digests)
        self._files, self._digests = files, digests

    def _write(self, file: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write a file; its name is on the disk before that of an index that names it."""
        with writing(self.folder / file) as part:
            save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, part)
            self._digests[file] = _sha256(part)
        self._files.update(dict.fromkeys(tensors, file))

    def clear(self) -> None:
        """Forget everything: the run begins, or is done."""
        try:
            (self.folder / _INDEX).unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.folder / _INDEX, error, code="state-unwritable") from None
        shutil.rmtree(self.folder, ignore_errors=True)
        self._files, self._digests = {}, {}

    def _sweep(self, named: Collection[str]) -> None:
        """Remove what no index names any more; a file that can't be removed is no failure."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                if path.name != _INDEX and path.name not in named:
                    path.unlink(missing_ok=True)

    def load(self) -> Saved | None:
        """Read the latest state, None when no step was finished.

        InputError when it is damaged, StageFailed when this computer can't read it now.
        """
        if not self.holds_any:
            return None
        try:
            index = json.loads((self.folder / _INDEX).read_text(encoding="utf-8"))
            if index["version"] != _VERSION:
                raise ValueError(f"its version is {index['version']}, this one reads {_VERSION}")
            boundary = Boundary(index["stage"], index["step"])
            values = dict(self._values(index["values"], index["sha256"]))
            self._generation = int(index["generation"]) + 1
        except _GONE as error:
            raise damaged(self.folder, _reason(error)) from None
        except _UNREADABLE as error:
            raise _unreadable(self.folder, error) from None
        except _DAMAGE as error:
            raise damaged(self.folder, _reason(error)) from None
        self._files, self._digests = {}, {}
        return Saved(boundary, values)

    def boundary(self) -> Boundary | None:
        """Say where the latest state belongs, without reading its values."""
        try:
            index = json.loads((self.folder / _INDEX).read_text(encoding="utf-8"))
            return Boundary(index["stage"], index["step"])
        except (*_UNREADABLE, *_DAMAGE):
            return None

    def _values(
        self, entries: Mapping[str, Mapping[str, str]], digests: Mapping[str, str]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        found: dict[str, dict[str, torch.Tensor]] = {}
        for name, entry in entries.items():
            file, path = entry["file"], self.folder / Path(entry["file"]).name
            if file not in found:
                if _sha256(path) != digests[file]:
                    raise ValueError(f"{path.name} is not what was saved")
                found[file] = load_file(path)
            yield name, found[file][entry["key"]]


def damaged(folder: Path, reason: str) -> InputError:
    """Say that the saved state can't be used."""
    return InputError(
        f"{folder}: damaged state: {reason}",
        hint="nothing else is lost: run it anew with wanflow run GRAPH --out DIR",
        code="bad-state",
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError):
        name = f": {Path(error.filename).name}" if error.filename else ""
        return f"{error.strerror or error}{name}"
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def _unreadable(folder: Path, error: BaseException) -> StageFailed:
    """Say that this computer can't read the saved state now; torch's own calls are left out."""
    reason = _reason(error).partition("\n")[0]
    return StageFailed(
        f"{folder}: the saved state can't be read: {reason}",
        hint="it may be whole: wanflow resume goes on once it can be read",
        code="state-unreadable",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
