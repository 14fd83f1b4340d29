"""Every write of a run fails once, or from then on: clear, nothing lost, and the run goes on."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import torch

from tests.disk import Disk
from tests.resuming import SMALL, Frames, cut_short, frames_of, resumed_frames
from wanflow.errors import StageFailed, WanflowError
from wanflow.session import Request, resume, run
from wanflow.session.running import job
from wanflow.trace import State, TraceReader, writer

ROOT = Path(__file__).resolve().parent.parent
SOAK = bool(os.environ.get("SOAK"))
INPUTS = {**SMALL.inputs, "steps": 2, "guidance": 1.0}
WHOLE = ("request.json", "plan.json", "run.json", "state/index.json")
HARMLESS = {"trace.msgpack", "lock", "machine"}  # the run itself goes on without them


@attrs.frozen
class Base:
    """A whole run with a tensor among its outputs, and one that was cut short."""

    request: Request
    frames: torch.Tensor
    outputs: dict[str, bytes]
    cut: Path


def outputs_of(out: Path) -> dict[str, bytes]:
    """What a run is for."""
    return {name: (out / name).read_bytes() for name in ("video.mp4", "latents.safetensors")}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Made once."""
    root = tmp_path_factory.mktemp("base")
    text = (ROOT / "graphs" / "t2v-tiny.yaml").read_text()
    (root / "graph.yaml").write_text(text + "  latents: denoise.latents\n")
    request = attrs.evolve(
        SMALL, graph=str(root / "graph.yaml"), inputs=INPUTS, pins=SMALL.pins[1:]
    )
    watch = Frames()
    run(request, out=root / "whole", watch=watch)
    return Base(
        request, watch.frames, outputs_of(root / "whole"), cut_short(request, root / "cut", 1)
    )


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """All that a run writes is below *tmp_path*, what it learns of the machine too."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Disk(tmp_path, monkeypatch)


def chosen(disk: Disk, *, last: bool, every: int) -> list[tuple[str, int]]:
    """The operations that are made to fail: the first or last of every few names.

    A soak takes all; of the trace's records, which are alike, every 25th.
    """
    if not SOAK:
        return [(name, disk.seen[name] if last else 1) for name in list(disk.seen)[::every]]
    step = {name: 25 if name == "write trace.msgpack" else 1 for name in disk.seen}
    return [(name, n) for name, k in disk.seen.items() for n in range(1, k + 1, step[name])]


def assert_whole(out: Path) -> None:
    """What has its final name can be read: no half of anything is to be seen."""
    for name in WHOLE:
        if (out / name).exists():
            json.loads((out / name).read_text())
    if (out / "trace.msgpack").exists() and (out / "trace.msgpack").stat().st_size:
        with TraceReader(out / "trace.msgpack") as reader:
            list(reader)


def assert_clear(problem: WanflowError, out: Path) -> None:
    """Exit 1, the reason, and the command that goes on if there is anything to go on from."""
    assert problem.exit_code == 1
    assert "No space left" in problem.message
    assert str(out) in problem.message
    saved = (out / "state" / "index.json").exists()
    assert ("resume" in problem.detail) == saved
    assert problem.hint


def goes_on(base: Base, out: Path) -> None:
    """Resume, or run again where nothing was begun, and get what the whole run got."""
    watch = Frames()
    if (out / "request.json").exists():
        resume(out, watch=watch)
    else:
        run(base.request, out=out, force=True, watch=watch)
    assert torch.equal(watch.frames, base.frames)
    assert not list(out.rglob("*.part"))


@pytest.mark.parametrize(
    ("stays", "every"),
    [(False, 4), (True, 6), pytest.param(False, 1, marks=pytest.mark.wide)],
    ids=["once", "from then on", "each once"],
)
class TestEveryWrite:
    """Of requests, plans, traces, states, outputs and reports."""

    def test_of_a_run(
        self, base: Base, disk: Disk, tmp_path: Path, stays: bool, every: int
    ) -> None:
        """Exit 1 with the reason, or done when only the trace failed; then the same results."""
        run(base.request, out=tmp_path / "first")  # makes the folder of what it learns
        disk.begin()
        run(base.request, out=tmp_path / "count")
        assert {"flush request.json.part", "write trace.msgpack", "save state-value"} <= {
            *disk.seen
        }
        for number, at in enumerate(chosen(disk, last=stays, every=every)):
            out = tmp_path / f"at{number}"
            disk.begin(at, stays=stays)
            problem, watch = None, Frames()
            try:
                report = run(base.request, out=out, watch=watch)
            except WanflowError as error:
                problem = error
            failed = self._judge(base, disk, out, problem, at[0])
            if problem is None:
                assert torch.equal(watch.frames, base.frames)
                assert bool(report["trace_problem"]) == any("trace" in name for name in failed)
            shutil.rmtree(out, ignore_errors=True)

    def test_of_resuming(
        self, base: Base, disk: Disk, tmp_path: Path, stays: bool, every: int
    ) -> None:
        """The same of a run that goes on."""
        for name in ("first", "count"):
            shutil.copytree(base.cut, tmp_path / name)
            disk.begin()
            resume(tmp_path / name)
        for number, at in enumerate(chosen(disk, last=stays, every=every)):
            out = Path(shutil.copytree(base.cut, tmp_path / f"at{number}"))
            disk.begin(at, stays=stays)
            problem = None
            try:
                resume(out)
            except WanflowError as error:
                problem = error
            self._judge(base, disk, out, problem, at[0])
            shutil.rmtree(out)

    def _judge(
        self, base: Base, disk: Disk, out: Path, problem: WanflowError | None, wanted: str
    ) -> list[str]:
        """See what came of it, then have room again; what failed."""
        failed = disk.failed
        disk.begin()
        # How many records there are, and whether there is something to learn, is up to the clock.
        assert failed or wanted.split()[1] in HARMLESS
        assert_whole(out)
        if problem is None:
            assert {name.split()[1] for name in failed} <= HARMLESS
            assert job.finished_report(out)
        else:
            assert_clear(problem, out)
        if job.finished_report(out):  # though perhaps not on the disk: it was not synced
            assert resume(out) == job.finished_report(out)
        else:
            goes_on(base, out)
        assert outputs_of(out) == base.outputs
        assert not (out / "state").exists()
        return failed


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A real file system of its own, where mounting is allowed; no larger than two pages."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def resize(folder: Path, size: str) -> None:
    """Make a mounted file system larger or smaller."""
    words = ["mount", "-o", f"remount,size={size}", str(folder)]
    subprocess.run(words, check=True, capture_output=True)


class TestSmallFileSystem:
    """No injection: the kernel says that there is no room."""

    def test_at_many_sizes(self, base: Base, small: Path) -> None:
        """Too small at first, then made larger: from no room for anything to nearly enough."""
        most = self._needed(base, small) // 1024
        few = (8, 28, 48, most // 2, most - 32, most - 16, most - 4)
        sizes = range(8, most, 4) if SOAK else few
        ended = []
        for size in sizes:
            resize(small, f"{size}k")
            out, problem = small / "run", None
            try:
                run(base.request, out=out)
            except WanflowError as error:
                problem = error
                assert_clear(problem, out)
            ended.append("" if problem is None else problem.code)
            resize(small, "16m")
            if problem is not None:
                goes_on(base, out)
            assert outputs_of(out) == base.outputs
            shutil.rmtree(out)
        assert len(set(ended)) >= 2, ended

    def _needed(self, base: Base, small: Path) -> int:
        resize(small, "16m")
        before, most = shutil.disk_usage(small).used, 0

        def watch(*_made: object) -> None:
            nonlocal most
            most = max(most, shutil.disk_usage(small).used)

        run(base.request, out=small / "run", watch=watch)
        shutil.rmtree(small / "run")
        return most - before


class TestWriters:
    """What fails in a way of its own."""

    @pytest.mark.parametrize("short", [True, False])
    def test_trace(
        self, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, short: bool
    ) -> None:
        """The run goes on without it; what was written can be read, and the report says so."""
        left = [25]

        def write(handle: int, data: bytes) -> int:
            left[0] -= 1
            if left[0] > 0:
                return os.write(handle, data)
            if left[0] == 0 and short:
                return os.write(handle, data[:-3])
            raise OSError(errno.ENOSPC, "No space left on device")

        names = {name: getattr(os, name) for name in dir(os)}
        monkeypatch.setattr(writer, "os", SimpleNamespace(**{**names, "write": write}))
        assert torch.equal(frames_of(base.request, tmp_path / "run"), base.frames)
        report = json.loads((tmp_path / "run" / "run.json").read_text())
        said = re.search(r"stops after (\d+) events", report["trace_problem"])
        assert said is not None
        with TraceReader(tmp_path / "run" / "trace.msgpack") as reader:
            assert len(list(reader)) == int(said[1]) > 20
            assert reader.info().state is State.CUT

    def test_pictures(self, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A PNG that can't be written: the folder of frames is whole or not there."""
        from PIL import Image

        text = Path(base.request.graph).read_text().replace("write_video", "write_frames")
        graph = tmp_path / "frames.yaml"
        text = text.replace("params: {fps: $fps}", "params: {}").replace(
            "write.file", "write.folder"
        )
        graph.write_text(text.replace("video:", "frames:"))
        real = Image.Image.save

        def save(image: Image.Image, path: Path, **options: Any) -> None:
            if Path(path).name == "00003.png":
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            real(image, path, **options)

        monkeypatch.setattr(Image.Image, "save", save)
        out = tmp_path / "run"
        with pytest.raises(StageFailed, match="No space left on device") as caught:
            frames_of(attrs.evolve(base.request, graph=str(graph)), out)
        assert caught.value.detail["resume"] == f"wanflow resume {out}"
        pictures = [path for path in out.iterdir() if path.is_dir() and path.name != "state"]
        assert pictures == []
        monkeypatch.setattr(Image.Image, "save", real)
        assert torch.equal(resumed_frames(out), base.frames)
        assert len(list(out.glob("*/*.png"))) == 5
