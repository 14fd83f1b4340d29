"""A disk that is full at a chosen operation: every way in which a run writes, counted and named."""

from __future__ import annotations

import errno
import io
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, Self

import pytest
import safetensors.torch
from safetensors import SafetensorError

from wanflow.session.running import saved_state as state
from wanflow.stages.video_file import VideoFile

_DIGITS = re.compile(r"\d+")


class Disk:
    """Counts what is written below *root*; a chosen operation fails, with *stays* all after it.

    An operation is what is done, the kind of file, and the how-manieth it is. What Rust and C write
    fails where Python calls them, with half a file left.
    """

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root.resolve()
        self.seen: Counter[str] = Counter()
        self.failed: list[str] = []
        self._full_at: tuple[str, int] | None = None
        self._stays = False
        self._patch_system(patch)
        self._patch_writers(patch)

    def begin(self, full_at: tuple[str, int] | None = None, *, stays: bool = False) -> None:
        """Count from the start; with None there is room for all."""
        self.seen, self.failed = Counter(), []
        self._full_at, self._stays = full_at, stays

    def ask(self, what: str, path: str | Path | int) -> None:
        """Count an operation; OSError when it is to fail."""
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        found = Path(os.path.realpath(path))
        if not found.is_relative_to(self.root):
            return
        name = f"{what} {self._kind(found)}"
        self.seen[name] += 1
        if (name, self.seen[name]) == self._full_at or (self._stays and self.failed):
            self.failed.append(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def _kind(self, path: Path) -> str:
        """Say what a file is: its name without numbers, or what all such files are."""
        folder = path.relative_to(self.root).parts[:-1]
        if not folder:
            return "run-folder"
        if folder[0] == "config":
            return "machine"
        is_value = folder[-1] == "state" and path.name.endswith(".safetensors.part")
        return "state-value" if is_value else _DIGITS.sub("", path.name)

    def _patch_system(self, patch: pytest.MonkeyPatch) -> None:
        opened, created = os.open, io.open

        def open_handle(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if flags & os.O_CREAT and not Path(path).exists():
                self.ask("open", path)
            return opened(path, flags, *more, **named)

        def open_file(path: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
            if not set(mode) & set("wax+"):
                return created(path, mode, *more, **named)
            self.ask("open", path)
            return _File(created(path, mode, *more, **named), self, path)

        patch.setattr(os, "open", open_handle)
        patch.setattr(io, "open", open_file)
        for name in ("mkdir", "rename", "replace", "write", "pwrite", "fsync"):
            self._before(patch, name)

    def _before(self, patch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(os, name)

        def do(file: Any, *more: Any, **named: Any) -> Any:
            if name != "mkdir" or not Path(file).exists():  # no space is needed then
                self.ask(name, file)
            return real(file, *more, **named)

        patch.setattr(os, name, do)

    def _patch_writers(self, patch: pytest.MonkeyPatch) -> None:
        saved, begun = safetensors.torch.save_file, VideoFile._open

        def save(tensors: Any, path: Path) -> None:
            try:
                self.ask("save", path)
            except OSError as error:
                path.write_bytes(b"\x50\0\0\0")
                text = f"Error while serializing: I/O error: {error.strerror} (os error 28)"
                raise SafetensorError(text) from None
            saved(tensors, path)

        def begin(video: Any, width: int, height: int) -> None:
            self.ask("create", video.path)
            begun(video, width, height)
            video._container = _Container(video._container, self, video.path)

        for module in (state, safetensors.torch):
            patch.setattr(module, "save_file", save)
        patch.setattr(VideoFile, "_open", begin)


class _File:
    """A file whose buffer goes to the disk when it is flushed or closed."""

    def __init__(self, file: Any, disk: Disk, path: str | Path | int) -> None:
        self._file, self._disk, self._path, self._dirty = file, disk, path, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def write(self, data: Any) -> Any:
        self._dirty = True
        return self._file.write(data)

    def flush(self) -> None:
        if self._dirty:
            self._dirty = False
            self._disk.ask("flush", self._path)
        self._file.flush()

    def close(self) -> None:
        try:
            if self._dirty:
                self.flush()
        finally:
            self._file.close()


class _Container:
    """FFmpeg's output: packets go to the file when they are muxed, the rest when it is closed."""

    def __init__(self, container: Any, disk: Disk, path: Path) -> None:
        self._container, self._disk, self._path = container, disk, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def mux(self, packets: Any) -> None:
        self._disk.ask("mux", self._path)
        self._container.mux(packets)

    def close(self) -> None:
        self._container.close()
        self._disk.ask("close", self._path)
