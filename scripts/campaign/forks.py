"""Commands of wanflow in children of one warm process, each on a disk of its own."""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from scripts.all_of_wanflow import import_all
from wanflow.files.folders import PACKAGE

TINY = PACKAGE / "bundled" / "wan-tiny"
WORK = "work"  # where commands are given
FRAMES = "frames"  # beside a disk: what was encoded, a digest a video


@attrs.frozen
class Ended:
    """How a child ended: an exit code, or less the number of a signal."""

    code: int
    out: str
    err: str
    cpu_seconds: float


@attrs.frozen
class Disk:
    """All that a command reads and writes: configuration, caches, downloads, and its folder."""

    root: Path

    @property
    def work(self) -> Path:
        """Where commands are given."""
        return self.root / WORK

    @property
    def frames(self) -> frozenset[str]:
        """The digests of the frames of each video that the last command finished."""
        path = self.root.with_suffix(f".{FRAMES}")
        return frozenset(path.read_text().split()) if path.exists() else frozenset()

    def forget_frames(self) -> None:
        """Wait for a command's own."""
        self.root.with_suffix(f".{FRAMES}").unlink(missing_ok=True)

    def copy(self, to: Path) -> Disk:
        """Make another one with the same on it."""
        shutil.rmtree(to, ignore_errors=True)
        return Disk(Path(shutil.copytree(self.root, to, symlinks=True)))

    def remove(self) -> None:
        """Take it away, with what was said beside it."""
        shutil.rmtree(self.root, ignore_errors=True)
        for suffix in (FRAMES, "out", "err"):
            self.root.with_suffix(f".{suffix}").unlink(missing_ok=True)


def new_disk(root: Path) -> Disk:
    """Make one with nothing on it."""
    (root / WORK).mkdir(parents=True)
    return Disk(root)


def warm() -> None:
    """Import what commands import, once for all children: nearly all of wanflow."""
    libraries = "safetensors.torch", "av.video.reformatter", "PIL.Image", "tokenizers", "yaml"
    for name in libraries:
        importlib.import_module(name)
    import_all()
    gc.collect()
    gc.freeze()


def warm_models() -> None:
    """Import what `models` compares a folder with: every known model, and transformers with it."""
    importlib.import_module("huggingface_hub")
    importlib.import_module("wanflow.session.weights.inspect").inspect(TINY)
    gc.collect()
    gc.freeze()


def command(words: list[str], disk: Disk, before: Callable[[], None] = lambda: None) -> Ended:
    """Run a command line in a child, *before* it what arms the child."""
    said = [disk.root.with_suffix(suffix) for suffix in (".out", ".err")]
    disk.forget_frames()
    pid = os.fork()
    if not pid:
        code = 71
        try:
            _settle(disk, said)
            from wanflow.cli import main

            before()
            code = main.run(words)
        finally:
            os._exit(code)
    _, status, usage = os.wait4(pid, 0)
    out, err = (path.read_text(errors="replace") for path in said)
    return Ended(os.waitstatus_to_exitcode(status), out, err, usage.ru_utime + usage.ru_stime)


def _settle(disk: Disk, said: list[Path]) -> None:
    """Be where the command is given, with the disk's folders, and tell of frames."""
    for stream, path in enumerate(said, 1):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, stream)
        os.close(handle)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as a new process has it
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for name in ("CONFIG", "CACHE", "DATA"):
        os.environ[f"XDG_{name}_HOME"] = str(disk.root / name.lower())
    os.environ |= {"WANFLOW_PROBE": "off", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "80"}
    os.chdir(disk.work)
    _tell_frames(disk.root.with_suffix(f".{FRAMES}"))


def _tell_frames(path: Path) -> None:
    """Digest what goes into each video, and keep that once it is finished."""
    from wanflow.stages.video_file import VideoFile

    written, finished = VideoFile.write, VideoFile.finish
    digests: dict[Path, Any] = {}

    def write(video: VideoFile, frames: Any) -> None:
        digests.setdefault(video.path, hashlib.sha256()).update(frames.tobytes())
        written(video, frames)

    def finish(video: VideoFile) -> None:
        finished(video)
        with path.open("a") as told:
            told.write(f"{digests.pop(video.path).hexdigest()}\n")

    VideoFile.write = write  # type: ignore[method-assign, assignment]
    VideoFile.finish = finish  # type: ignore[method-assign, assignment]
