"""Two experts, each for a share of the steps, are diffusers' own, bit for bit, at every budget."""

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
from diffusers import (
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from PIL import Image

from tests.experts import SWITCH, make_experts
from tests.jobs import MeasuredRuns, budgets, run_watched
from tests.pictured import picture
from tests.pipelines import parts_of
from tests.resuming import Link, events, frames_of, resumed_frames
from wanflow.errors import WeightsError
from wanflow.session import Request, plan, run
from wanflow.trace.events import Move, Note, Step, Transfer

ROOT = Path(__file__).resolve().parent.parent
KILL_AT = str(ROOT / "tests" / "kill_at.py")
STREAMED = ("high.weights=stream", "low.weights=stream")
SEED, PROMPT = 11, "a red circle moves right on a blue background"
HIGH, LOW = 4.0, 3.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights and graph of both kinds."""
    base = tmp_path_factory.mktemp("experts")
    return {kind: make_experts(kind, base / kind) for kind in ("t2v", "i2v")}


@attrs.frozen
class Job:
    """What both sides are asked for."""

    folder: Path
    image: str = ""
    steps: int = 6
    shift: float = 5.0
    boundary: float = SWITCH

    def request(self, **options: Any) -> Request:
        """The job as wanflow takes it."""
        inputs: dict[str, Any] = {
            "prompt": PROMPT, "seed": SEED, "steps": self.steps, "shift": self.shift,
            "boundary": self.boundary,
        }  # fmt: skip
        inputs |= {"image": self.image} if self.image else {}
        return Request(str(self.folder / "graph.yaml"), inputs, device="cpu", exact=True, **options)

    def expected(self) -> torch.Tensor:
        """The pipeline's frames `[n, 3, H, W]`, its parts loaded by their own classes."""
        kind = WanImageToVideoPipeline if self.image else WanPipeline
        folder = self.folder
        pipeline = kind(
            **parts_of(folder),
            transformer_2=WanTransformer3DModel.from_pretrained(folder / "transformer_2"),
            scheduler=UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=self.shift
            ),
            boundary_ratio=self.boundary,
        )
        pipeline.set_progress_bar_config(disable=True)
        given = {"image": Image.open(self.image).convert("RGB")} if self.image else {}
        frames = pipeline(
            **given, prompt=PROMPT, width=64, height=48, num_frames=9,
            num_inference_steps=self.steps, guidance_scale=HIGH, guidance_scale_2=LOW,
            generator=torch.Generator("cpu").manual_seed(SEED), output_type="pt",
        ).frames  # fmt: skip
        return torch.as_tensor(frames[0])


class TestFrames:
    """From everything resident to the minimum."""

    @pytest.mark.parametrize("kind", ["t2v", "i2v"])
    def test_are_the_pipelines(
        self, folders: dict[str, Path], kind: str, tmp_path: Path, measured_runs: MeasuredRuns
    ) -> None:
        """With the sampler's history going on at the switch; what is measured is as planned."""
        image = picture(tmp_path / "first.png", 1) if kind == "i2v" else ""
        job = Job(folders[kind], image)
        wanted = job.expected()
        most, _, least = budgets(job.request())
        for budget in (most, least):
            measured = measured_runs(job.request(vram=f"{budget}B"))
            assert torch.equal(measured.frames, wanted), budget
            measured.assert_within(budget)


class TestSwitch:
    """From one expert to the other."""

    def test_an_expert_without_a_step_is_not_asked_for(
        self, folders: dict[str, Path], tmp_path: Path
    ) -> None:
        """All steps are of the first one: the second one's weights need not be on disk."""
        folder = Path(shutil.copytree(folders["t2v"], tmp_path / "one", symlinks=True))
        request = Job(folder, steps=2, boundary=0.0).request()
        wanted = run_watched(request, tmp_path / "both")
        shutil.rmtree(folder / "transformer_2")
        assert torch.equal(run_watched(request, tmp_path / "alone").frames, wanted.frames)
        stages = plan(request).report["stages"]
        assert isinstance(stages, list)
        assert "low" not in [stage["stage"] for stage in stages]
        with pytest.raises(WeightsError, match="no weights for model 'low'"):
            run(Job(folder).request(), out=tmp_path / "refused")

    def test_the_second_ones_first_weights_come_before_it(
        self, folders: dict[str, Path], tmp_path: Path
    ) -> None:
        """They are asked for in the last step of the first one, and the trace says so."""
        run_watched(Job(folders["t2v"]).request(pins=STREAMED), tmp_path / "run")
        seen = events(tmp_path / "run")
        asked = [n for n, e in enumerate(seen) if isinstance(e, Move) and e.name.startswith("low/")]
        steps = [n for n, e in enumerate(seen) if isinstance(e, Step) and e.stage == "high"]
        assert steps[-2] < asked[0] < steps[-1]
        come = [e for e in seen if isinstance(e, Transfer) and e.name.startswith("low/")]
        assert come[0].began_ns > seen[steps[-2]].ended_ns

    def test_out_of_memory_there(self, folders: dict[str, Path], tmp_path: Path) -> None:
        """The plan is tightened and the run goes on from the step before."""
        request = attrs.evolve(Job(folders["t2v"]).request(), pins=STREAMED)
        wanted, link = frames_of(request, tmp_path / "whole"), Link()
        latents: list[int] = []

        def note(_stage: str, name: str, _tensor: torch.Tensor) -> None:
            if name == "high.latents":
                latents.append(link.slabs)

        run(request, out=tmp_path / "count", watch=note, on=link.place)
        at, link.slabs = latents[-1] + 1, 0
        link.fails = lambda number: number == at
        assert torch.equal(frames_of(request, tmp_path / "run", link.place), wanted)
        plans = [e for e in events(tmp_path / "run") if isinstance(e, Note)]
        assert [note.topic for note in plans] == ["out of memory", "re-plan"]
        assert link.left_bytes() == 0
        link.close()


def test_killed_anywhere(folders: dict[str, Path], tmp_path: Path) -> None:
    """In the first expert, right after its last step, and in the second: the same frames."""
    graph, whole = str(folders["t2v"] / "graph.yaml"), Job(folders["t2v"]).request()
    request = attrs.evolve(whole, inputs={**whole.inputs, "size": "32*32", "frames": 5})
    wanted = frames_of(request, tmp_path / "whole")
    places = {"first": "high.latents:2", "switch": "high.latents:3", "second": "low.latents:2"}
    assert _steps(request) == {"high": 3, "low": 3}
    asked = [f"{place}:{tmp_path / name}" for name, place in places.items()]
    words = [sys.executable, KILL_AT, graph, json.dumps(request.inputs), *asked]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    for name in places:
        assert torch.equal(resumed_frames(tmp_path / name), wanted), name


def _steps(request: Request) -> dict[str, int]:
    """How many steps each expert has."""
    stages: Any = plan(request).report["stages"]
    return {s["stage"]: s["steps"] for s in stages if s["op"] == "denoise"}
