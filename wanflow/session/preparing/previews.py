"""Which steps a preview is made at, and with which map; where a run is to stop."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import attrs

from wanflow.errors import InputError
from wanflow.graph import BoundGraph, BoundStage
from wanflow.graph.wording import quoted
from wanflow.models.bound import LocatedModel
from wanflow.session.request import Request
from wanflow.stages.preview_map import Previewing, find_map

_FPS = 16.0  # where a graph has no rate


@attrs.frozen
class Until:
    """The last step that is run: of a stage, from 0."""

    stage: str
    step: int

    def __str__(self) -> str:
        """Write it as it is asked for."""
        return f"{self.stage}:{self.step + 1}"


def until_of(text: str, graph: BoundGraph) -> Until | None:
    """Read `STAGE:STEP`; InputError with what there is."""
    if not text:
        return None
    name, _, number = text.rpartition(":")
    steps = {stage.name: graph.turns(stage) for stage in graph.stages if not _streams(stage, graph)}
    step = int(number) if number.isascii() and number.isdigit() else 0
    problem = ""
    if not name or not step:
        problem = "is no STAGE:STEP, steps counted from 1"
    elif any(stage.name == name for stage in graph.stages) and name not in steps:
        problem = f"between two steps of {name} its frames are on their way into a file"
    elif name not in steps:
        problem = f"graph '{graph.name}' has no stage {quoted(name)}"
    elif step > steps[name]:
        problem = f"{name} has {steps[name]} step{'s' * (steps[name] > 1)}"
    if problem:
        last = ", ".join(f"{stage}:{count}" for stage, count in steps.items())
        raise InputError(
            f"--until {text}: {problem}", hint=f"at the latest {last}", code="bad-until"
        )
    return Until(name, step - 1)


def _streams(stage: BoundStage, graph: BoundGraph) -> bool:
    """Whether a stage is at either end of a stream, where no run can be gone on with."""
    return stage.op.name.startswith("write_") or any(
        "frames" in other.inputs and getattr(other.inputs["frames"], "stage", "") == stage.name
        for other in graph.stages
    )


@attrs.frozen
class Previews:
    """A graph with the steps that previews are made at, how they look, and why there are none."""

    graph: BoundGraph
    previewing: Previewing
    note: str = ""


def with_previews(
    graph: BoundGraph, models: Mapping[str, LocatedModel], request: Request, until: Until | None
) -> Previews:
    """Give every stage that denoises its previews; none where the VAE's map is not known.

    Without weights they are planned: what they cost is the same with any map.
    """
    stages = tuple(_marked(stage, request.preview_every, until) for stage in graph.stages)
    vae = next((m for m in models.values() if m.spec.part == "vae"), None)
    frame_ms = round(1000 * _frames_a_latent(vae) / float(str(graph.inputs.get("fps", _FPS))))
    if not any(stage.previews for stage in stages):
        return Previews(graph, Previewing())
    marked, checkpoint = attrs.evolve(graph, stages=stages), vae.checkpoint if vae else None
    if vae is not None and checkpoint is None:
        return Previews(marked, Previewing(frame_ms=frame_ms))
    if vae is None or checkpoint is None:
        return Previews(graph, Previewing(), "no previews: the graph has no VAE to know colours by")
    from wanflow.models.weights.identity import identity

    found = find_map(identity(checkpoint))
    if found is None:
        command = f"wanflow models fit-preview {shlex.quote(str(vae.folder))}"
        return Previews(
            graph, Previewing(), f"no previews: no map is known of this VAE's colours: {command}"
        )
    colours = found.colours.of_normalised(*normalising(vae, found.channels))
    return Previews(marked, Previewing(colours, frame_ms))


def normalising(vae: LocatedModel, channels: int) -> tuple[list[float], list[float]]:
    """The mean and the deviation of each channel, which its decoder puts back."""
    config: Any = vae.model.module.config
    mean, deviation = (getattr(config, name, None) for name in ("latents_mean", "latents_std"))
    return [*(mean or [0.0] * channels)], [*(deviation or [1.0] * channels)]


def _marked(stage: BoundStage, every: int, until: Until | None) -> BoundStage:
    if stage.op.name != "denoise":
        return stage
    last = int(str(stage.params["steps"])) - 1
    steps = {i for i in stage.steps if every and ((i + 1) % every == 0 or i == last)}
    if until is not None and until.stage == stage.name:
        steps.add(stage.steps[until.step])
    return attrs.evolve(stage, previews=frozenset(steps))


def _frames_a_latent(vae: LocatedModel | None) -> int:
    return int(vae.config.get("scale_factor_temporal", 4)) if vae is not None else 4
