"""What the values of a bound stage must be to each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wanflow.errors import InputError
from wanflow.graph.bound import BoundGraph, BoundStage
from wanflow.graph.inputs import FILE_TYPES
from wanflow.graph.values import PortRef
from wanflow.graph.wording import listing

ENCODERS = ("encode_frames", "encode_image")  # of files, of which one must be there
_SCHEDULE = ("steps", "sampler", "shift", "grid", "timesteps")


def check_stages(stages: tuple[BoundStage, ...]) -> None:
    """InputError for the first stage whose values contradict each other."""
    by_name = {stage.name: stage for stage in stages}
    _check_names(stages)
    for stage in stages:
        _check_encoded(stage)
        _check_mask(stage)
        if stage.op.name == "denoise":
            _check_grid(stage)
            _check_timesteps(stage)
            _check_strength(stage)
            _check_history(stage, by_name)


def check_pictures(graph: BoundGraph) -> None:
    """InputError for a stage that writes one picture and is given a video."""
    for stage in graph.stages:
        frames = graph.frames_of(stage) if stage.op.name == "write_picture" else 1
        if frames > 1:
            raise InputError(
                f"stage '{stage.name}' writes one picture, and there are {frames} frames",
                hint="ask for 1 frame, or use write_video or write_frames",
                code="many-frames",
            )


def file_ports(stage: BoundStage) -> list[str]:
    """Name the ports of a stage that take files."""
    return [
        port
        for port, spec in stage.op.inputs.items()
        if spec.wanted is not None and spec.wanted.type in FILE_TYPES
    ]


def _check_encoded(stage: BoundStage) -> None:
    """Something must be there to encode, and no frame twice."""
    if stage.op.name not in ENCODERS:
        return
    ports = file_ports(stage)
    files = [port for port in ports if stage.inputs.get(port)]
    if not files:
        message = f"stage '{stage.name}' has nothing to encode"
        raise InputError(message, hint=f"give {listing(ports)}", code="missing-input")
    if "video" in files and len(files) > 1:
        message = f"stage '{stage.name}' has {listing(files, 'and')}: a video has all frames"
        raise InputError(message, hint="leave one out", code="frames-twice")
    if "last_image" in files and stage.inputs.get("frames") == 1:
        message = f"stage '{stage.name}' has a last image and one frame"
        raise InputError(message, hint="ask for 5 frames or more", code="frames-twice")


def _check_mask(stage: BoundStage) -> None:
    is_alone = stage.inputs.get("mask") and not stage.inputs.get("video")
    if stage.op.name == "encode_control" and is_alone:
        raise InputError(
            f"stage '{stage.name}' has a mask and no video: there is nothing to make anew",
            hint="give the video too, or leave the mask out",
            code="mask-alone",
        )


def _check_grid(stage: BoundStage) -> None:
    if (stage.params.get("grid"), stage.params.get("sampler")) == ("official", "euler"):
        raise InputError(
            f"stage '{stage.name}': Wan's own code has no grid for euler",
            hint=f"leave '{stage.name}.grid' at diffusers, or take unipc or dpm++",
            code="no-such-grid",
        )


def _check_timesteps(stage: BoundStage) -> None:
    """Multistep samplers work their orders out from their own grid."""
    sampler = stage.params["sampler"]
    if stage.params["timesteps"] and sampler != "euler":
        raise InputError(
            f"stage '{stage.name}' has timesteps of its own, which {sampler} can't take",
            hint=f"--set {stage.name}.sampler=euler, or 'sampler: euler' in the graph",
            code="timesteps-sampler",
        )


def _check_strength(stage: BoundStage) -> None:
    """A source starts somewhere in the schedule; noise alone starts at its beginning."""
    steps, strength = int(str(stage.params["steps"])), float(str(stage.params["strength"]))
    if "source" not in stage.inputs and strength != 1:
        raise InputError(
            f"stage '{stage.name}' has a strength of {strength:g} and no source to start from",
            hint="wire a video's latents to its port 'source'",
            code="strength-alone",
        )
    if int(steps * strength) < 1:
        raise InputError(
            f"stage '{stage.name}': a strength of {strength:g} of {steps} steps is no step",
            hint=f"strength {1 / steps:.3g} or more, or more steps",
            code="no-steps",
        )


def _check_history(stage: BoundStage, stages: Mapping[str, BoundStage]) -> None:
    """A history goes on where it was left off: in the same schedule."""
    ref = stage.inputs.get("history")
    if not isinstance(ref, PortRef):
        return
    before = stages[ref.stage]
    differing = [name for name in _SCHEDULE if stage.params[name] != before.params[name]]
    if differing:
        raise InputError(
            f"stage '{stage.name}' goes on with the history of '{before.name}', which has another "
            f"{listing(differing, 'and')}",
            hint="let both read the same inputs",
            code="other-schedule",
        )


def _check_names(stages: Iterable[BoundStage]) -> None:
    writers: dict[str, str] = {}
    for stage in stages:
        name = stage.params.get("name")
        if isinstance(name, str):
            first = writers.setdefault(name.lower(), stage.name)
            if first != stage.name:
                raise InputError(
                    f"stages '{first}' and '{stage.name}' both write '{name}'",
                    hint=f"add --set {stage.name}.name=...",
                    code="same-file",
                )
