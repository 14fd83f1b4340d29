"""Runs that were cut short go on to the same frames, or are refused with the reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.resuming import SMALL, cut_short, frames_of, resumed_frames
from wanflow.errors import InputError, StageFailed
from wanflow.files.lock import locked
from wanflow.session import Request, resume, run
from wanflow.session.running import job

ROOT = Path(__file__).resolve().parent.parent
_SAVED = '"version": 2, "generation": 0, "stage": "denoise", "step": 0'  # of an index


@attrs.frozen
class Base:
    """A run that was cut short, with a graph file and weights of its own, and the whole one."""

    run: Path
    graph: Path
    weights: Path
    request: Request
    frames: torch.Tensor
    video: bytes


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Made once; tests work on copies of the run folder."""
    root = tmp_path_factory.mktemp("base")
    graph = Path(shutil.copy(ROOT / "graphs" / "t2v-tiny.yaml", root / "t2v-tiny.yaml"))
    weights = Path(shutil.copytree(ROOT / "wanflow" / "bundled" / "wan-tiny", root / "weights"))
    request = attrs.evolve(SMALL, graph=str(graph), weights=(str(weights),))
    frames = frames_of(request, root / "whole")
    video = (root / "whole" / "video.mp4").read_bytes()
    return Base(cut_short(request, root / "run"), graph, weights, request, frames, video)


@pytest.fixture
def folder(base: Base, tmp_path: Path) -> Path:
    """A copy of the run that was cut short."""
    return Path(shutil.copytree(base.run, tmp_path / "run"))


class TestGoesOn:
    """From the last finished step."""

    def test_the_same_frames_and_file(self, base: Base, folder: Path) -> None:
        """Bit for bit; the trace before is kept, the state is not."""
        assert torch.equal(resumed_frames(folder), base.frames)
        assert (folder / "video.mp4").read_bytes() == base.video
        assert (folder / "trace-1.msgpack").exists()
        assert not (folder / "state").exists()
        report = json.loads((folder / "run.json").read_text())
        assert (report["status"], report["resumed"]) == ("done", True)

    def test_after_a_second_cut(self, base: Base, folder: Path) -> None:
        """As often as it takes."""

        def fail(stage: str, _name: str, _tensor: torch.Tensor) -> None:
            if stage == "decode":
                raise StageFailed("again")

        with pytest.raises(StageFailed) as caught:
            resume(folder, watch=fail)
        assert caught.value.detail["resume"] == f"wanflow resume {folder}"
        assert torch.equal(resumed_frames(folder), base.frames)
        assert (folder / "trace-2.msgpack").exists()

    def test_from_another_folder(
        self, base: Base, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Paths in a request were made absolute."""
        monkeypatch.chdir(base.graph.parent)
        request = attrs.evolve(base.request, graph=base.graph.name, weights=("weights",))
        found = cut_short(request, tmp_path / "other")
        monkeypatch.chdir("/")
        assert torch.equal(resumed_frames(found), base.frames)

    def test_with_another_plan(self, base: Base, folder: Path) -> None:
        """The state is the same in either order of the passes; its files are named anew."""
        path = folder / "request.json"
        said = json.loads(path.read_text())
        said["request"]["pins"] = ["denoise.cfg=paired", "denoise.weights=stream", *SMALL.pins[1:]]
        path.write_text(json.dumps(said))
        assert torch.equal(resumed_frames(folder), base.frames)

    def test_goes_on_as_it_was_rounded(self, tmp_path: Path) -> None:
        """What would be chosen now may round otherwise: the rest is computed as the plan says."""
        pins = ("denoise.cfg=serial", "denoise.rows=1024", "decode.strips=strips.2")
        rounded = attrs.evolve(SMALL, pins=pins)
        wanted = frames_of(rounded, tmp_path / "whole")
        folder = cut_short(rounded, tmp_path / "cut")
        path = folder / "request.json"
        said = json.loads(path.read_text())
        said["request"]["pins"] = ["denoise.cfg=serial"]
        path.write_text(json.dumps(said))

        assert torch.equal(resumed_frames(folder), wanted)
        plan = json.loads((folder / "plan.json").read_text())
        knobs = {stage["stage"]: stage["knobs"] for stage in plan["stages"]}
        assert knobs["denoise"]["rows"] == "1024"
        assert knobs["decode"]["strips"] == "strips.2"

    @pytest.mark.parametrize("text", ["", "[]", '{"stages": [1]}', '{"stages": [{}]}'])
    def test_a_lost_plan(self, folder: Path, base: Base, text: str) -> None:
        """It is made anew."""
        (folder / "plan.json").write_text(text)
        assert torch.equal(resumed_frames(folder), base.frames)

    def test_the_same_weights_again(self, base: Base, folder: Path, tmp_path: Path) -> None:
        """Bytes that came again, in other files of another time and layout, are the same."""
        path = next((base.weights / "transformer").glob("*.safetensors"))
        aside = path.rename(tmp_path / path.name)
        tensors = list(load_file(aside).items())
        save_file(dict(tensors[:9]), path.with_name("a.safetensors"))
        save_file(dict(tensors[9:]), path.with_name("b.safetensors"))
        try:
            assert torch.equal(resumed_frames(folder), base.frames)
        finally:
            for name in ("a", "b"):
                path.with_name(f"{name}.safetensors").unlink()
            aside.rename(path)

    def test_finished(self, folder: Path) -> None:
        """A run that is done is left alone: its report."""
        resumed_frames(folder)
        report = json.loads((folder / "run.json").read_text())
        before = sorted(folder.iterdir())
        assert resume(folder) == report
        assert sorted(folder.iterdir()) == before

    def test_a_new_run_forgets_the_old_one(self, base: Base, folder: Path) -> None:
        """A forced run that is cut short does not pass for the finished one that was there."""
        resumed_frames(folder)
        with pytest.raises(StageFailed):
            run(base.request, out=folder, force=True, watch=_failing)
        assert torch.equal(resumed_frames(folder), base.frames)


def _failing(_stage: str, _name: str, _tensor: torch.Tensor) -> None:
    raise StageFailed("at once")


class TestRefused:
    """What is not as it was: exit 2, saying what."""

    def refused(self, folder: Path, match: str) -> None:
        with pytest.raises(InputError, match=match) as caught:
            resume(folder)
        assert "resume" not in caught.value.detail

    def test_changed_graph(self, base: Base, folder: Path) -> None:
        """Another seed in the file."""
        text = base.graph.read_text()
        base.graph.write_text(text.replace("default: 3.0", "default: 4.0"))
        try:
            self.refused(folder, "can't go on: graph was .*; input shift was 3.0, is 4.0")
        finally:
            base.graph.write_text(text)

    def test_changed_weights(self, base: Base, folder: Path) -> None:
        """One tensor is another, though names, sizes and times are as before."""
        path = next((base.weights / "transformer").glob("*.safetensors"))
        before, content = path.stat(), path.read_bytes()
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        try:
            self.refused(folder, "can't go on: weights of dit was")
        finally:
            path.write_bytes(content)

    def test_changed_versions(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Named, the version of then and of now."""
        now = {**job.versions(), "torch": "9.9"}
        monkeypatch.setattr(job, "versions", lambda: now)
        self.refused(folder, 'can\'t go on: version of torch was "2.*", is "9.9"')

    def test_another_process(self, folder: Path) -> None:
        """Its number is told; when it is gone the run goes on."""
        script = (
            "import fcntl, os, sys\nhandle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
            "fcntl.flock(handle, fcntl.LOCK_EX)\n"
            "os.pwrite(handle, f'{os.getpid():<20}\\n'.encode(), 0)\nprint(flush=True)\ninput()\n"
        )
        words = [sys.executable, "-c", script, folder / "lock"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(words, **pipes) as other:
            assert other.stdout is not None
            assert other.stdin is not None
            other.stdout.readline()
            self.refused(folder, f"process {other.pid} is running there")
            other.stdin.write("\n")
            other.stdin.close()
        with locked(folder):
            pass

    def test_the_lock_has_its_holder(self, folder: Path) -> None:
        """Whoever holds it is named to the second one."""
        with locked(folder):
            self.refused(folder, f"process {os.getpid()} is running there")

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"request": 1}', '{"request": {"graph": 5}, "fingerprint": {}}',
                 '{"request": {"graph": "t2v-tiny", "x": 1}, "fingerprint": {}}', "\xff", "null"]
    )  # fmt: skip
    def test_damaged_request(self, tmp_path: Path, text: str) -> None:
        """Whatever it holds."""
        (tmp_path / "request.json").write_bytes(text.encode("latin1"))
        self.refused(tmp_path, "request.json: damaged")

    def test_no_run_folder(self, tmp_path: Path) -> None:
        """Empty, not there, or a file."""
        (tmp_path / "file").write_text("")
        for path in (tmp_path, tmp_path / "absent", tmp_path / "file"):
            self.refused(path, "is no run folder")

    @pytest.mark.parametrize(
        "index",
        ["", "[]", "{}", '{"version": 1}', '{"version": 2, "stage": "denoise", "step": 0}',
         f'{{{_SAVED}, "values": {{}}}}', f'{{{_SAVED}, "sha256": {{}}, "values": []}}',
         f'{{{_SAVED}, "sha256": {{}}, "values": {{"a": 1}}}}'],
    )  # fmt: skip
    def test_damaged_index(self, folder: Path, index: str) -> None:
        """Refused before anything in the folder changes."""
        (folder / "state" / "index.json").write_text(index)
        self.refused(folder, "damaged state: ")
        assert not (folder / "trace-1.msgpack").exists()

    @pytest.mark.parametrize("damage", ["cut", "flip", "missing"])
    def test_damaged_value(self, folder: Path, damage: str) -> None:
        """A value that is not what was saved."""
        path = next((folder / "state").glob("denoise.*.safetensors"))
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(data if damage == "flip" else data[:-1])
        self.refused(folder, "damaged state: .*denoise")

    @pytest.mark.parametrize("change", [{"step": 99}, {"stage": "other"}, {"values": {}}])
    def test_state_of_another_graph(self, folder: Path, change: dict[str, object]) -> None:
        """A boundary or values that the plan does not have."""
        path = folder / "state" / "index.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        self.refused(folder, "no step|is missing")
