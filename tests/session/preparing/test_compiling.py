"""`--pin denoise.compile=on`: a run compiled before it, within its plan, or refused with reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch._dynamo.utils import counters

from tests.resuming import SMALL, Frames, cut_short, events, frames_of, resumed_frames
from wanflow.errors import InputError
from wanflow.files.folders import cache_folder
from wanflow.session import Request, plan, run
from wanflow.session.preparing.compiling import check_compiler
from wanflow.trace.events import Note

COMPILED = attrs.evolve(SMALL, pins=(*SMALL.pins, "denoise.compile=on"))
BOUND = 1e-4  # of pixels in [0, 1]; the tiny model computes in fp32
KERNELS = 7


@attrs.frozen
class Ran:
    """A run whose kernels were compiled, and its frames."""

    folder: Path
    report: dict[str, Any]
    frames: torch.Tensor


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Whole, with streamed blocks, so that each is bound anew at each use."""
    folder, watch = tmp_path_factory.mktemp("compiled") / "run", Frames()
    torch._dynamo.reset()
    counters.clear()
    request = attrs.evolve(COMPILED, pins=(*COMPILED.pins, "denoise.weights=stream"))
    return Ran(folder, run(request, out=folder, watch=watch), watch.frames)


def stages_of(folder: Path) -> list[dict[str, Any]]:
    """What a run's plan says of each stage."""
    stages: list[dict[str, Any]] = json.loads((folder / "plan.json").read_text())["stages"]
    return stages


class TestRun:
    def test_frames(self, ran: Ran, tmp_path: Path) -> None:
        """Nearly those of a run op by op."""
        assert torch.allclose(ran.frames, frames_of(SMALL, tmp_path), rtol=0, atol=BOUND)

    def test_streamed_blocks_share_kernels(self, ran: Ran) -> None:
        """A graph a kernel, however often blocks come and go."""
        assert ran.report["status"] == "done"
        assert counters["stats"]["unique_graphs"] == KERNELS

    @pytest.mark.parametrize("rows", ["all", "1024"])
    def test_within_the_plan(self, ran: Ran, tmp_path: Path, rows: str) -> None:
        """What kernels make is planned for, to the byte, where blocks are the peak."""
        del ran
        pins = (f"denoise.rows={rows}", "denoise.compile=on", "decode.strips=strips.1")
        report = run(attrs.evolve(SMALL, pins=pins), out=tmp_path / "run")
        (denoise,) = [s for s in stages_of(tmp_path / "run") if s["stage"] == "denoise"]
        assert report["peak_source"] == "tracked"
        assert report["peak_bytes"] == report["predicted_peak_bytes"] == denoise["peak_bytes"]

    def test_compile_time_is_told(self, ran: Ran) -> None:
        """In the report and in the trace, and it is no part of the run's seconds."""
        notes = [
            e.text for e in events(ran.folder) if isinstance(e, Note) and e.topic == "compiled"
        ]
        assert ran.report["compile_seconds"] > 0
        seconds = f"{ran.report['compile_seconds']:.1f} s"
        assert notes == [f"{KERNELS} kernels of denoise in {seconds}, before the first call"]

    def test_kept_on_disk(self, ran: Ran) -> None:
        """Below the folder of caches, where another process finds it."""
        del ran
        assert any((cache_folder() / "compiled").rglob("*.so"))

    def test_resumed(self, tmp_path: Path) -> None:
        """To the same bits."""
        whole = frames_of(COMPILED, tmp_path / "whole")
        cut = cut_short(COMPILED, tmp_path / "cut")
        assert torch.equal(whole, resumed_frames(cut))


class TestAsked:
    def test_never_chosen(self) -> None:
        """The planner leaves it alone, and so does a run that doesn't ask."""
        stages = {s["stage"]: s for s in plan(SMALL).report["stages"]}  # type: ignore[attr-defined]
        assert "compile" not in stages["denoise"]["knobs"]

    def test_exact_refuses_it(self) -> None:
        """It rounds."""
        with pytest.raises(InputError, match="rounds differently, which --exact rules out"):
            plan(attrs.evolve(COMPILED, exact=True))

    def test_planned_for_elsewhere(self) -> None:
        """A plan asks for no compiler, and compiles nothing."""
        request = Request(
            "t2v-1.3b", {"frames": 5}, machine="rtx4090", pins=("denoise.compile=on",)
        )
        assert plan(request).plan.knobs["denoise"]["compile"] == "on"


class TestNoCompiler:
    def test_refused_before_the_run(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Exit 2, naming what was looked for; there is no run folder."""
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.raises(
            InputError, match="no compiler here: no-such-compiler not found"
        ) as said:
            run(COMPILED, out=tmp_path / "run")
        assert (said.value.exit_code, said.value.code) == (2, "no-compiler")
        assert not (tmp_path / "run").exists()

    def test_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nothing is compiled, nothing is looked for."""
        monkeypatch.setattr(shutil, "which", lambda _name: pytest.fail("looked"))
        check_compiler({"denoise": {"compile": "off"}}, torch.device("cpu"))
