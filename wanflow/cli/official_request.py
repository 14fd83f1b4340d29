"""From official flags to a request: inputs of the task's graph, pins, settings, what to say."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from wanflow.cli.official_files import files_of
from wanflow.cli.official_tasks import Task, default_task, find_size, find_task
from wanflow.errors import InputError, WeightsError
from wanflow.graph.load import load
from wanflow.graph.ops import LARGEST_SEED
from wanflow.graph.spec import GraphSpec
from wanflow.terminal.safe import printable

if TYPE_CHECKING:
    from wanflow.session import Request

_INPUTS = {  # by flag, of those that a graph has; one scale is both experts'
    "frame_num": ("frames",),
    "sample_steps": ("steps",),
    "sample_shift": ("shift",),
    "sample_guide_scale": ("guidance", "guidance_high", "guidance_low"),
}
_SLICED_ROWS = "1024"
_PRECISE_PARTS = ("text_encoder", "transformer")  # upstream computes the VAE in fp32, CLIP in fp16


@attrs.frozen
class TranslatedFlags:
    """What the flags mean for a graph; `notes` are for the person."""

    task: Task
    graph: str
    inputs: dict[str, str | int | float]
    weights: str
    precision: tuple[str, ...]
    settings: tuple[str, ...]
    pins: tuple[str, ...]
    notes: tuple[str, ...]

    def request(self, flags: Any) -> Request:
        """Make the request; this loads torch."""
        from wanflow.session import Request

        return Request(
            graph=self.graph,
            inputs=self.inputs,
            vram=flags.vram,
            ram=flags.ram,
            device=flags.device,
            weights=(self.weights,),
            precision=self.precision,
            settings=self.settings,
            pins=self.pins,
            exact=flags.exact,
            own_configs=True,
            probe=not flags.no_probe,
            metadata=not flags.no_metadata,
            allow_nonfinite=flags.allow_nonfinite,
            any_shape=True,  # --size is an area where a video is given
        )


def read(flags: Any) -> TranslatedFlags:
    """Say what *flags* (of `official.parse`) ask for; InputError, WeightsError for what can't be.

    A seed is drawn where none is given.
    """
    folder = _folder(flags.ckpt_dir)
    task, chosen = (find_task(flags.task), "") if flags.task else default_task(folder)
    size, why = find_size(task, flags.size, Path(flags.ckpt_dir))
    files = files_of(task, flags)
    _check(task, flags)
    graph = task.graphs[size]
    spec = load(graph).spec
    drawn = flags.base_seed < 0
    seed = secrets.randbelow(LARGEST_SEED + 1) if drawn else flags.base_seed
    inputs = {
        "prompt": task.example if flags.prompt is None else flags.prompt,
        "size": size,
        "seed": seed,
        **_numbers(spec, flags),
        **files,
    }
    return TranslatedFlags(
        task,
        graph,
        inputs,
        str(folder),
        tuple(_precision(spec, flags)),
        tuple(_settings(spec, flags)),
        tuple(_pins(spec, flags)),
        tuple(_notes(task, spec, flags, (chosen, why), seed if drawn else None)),
    )


def _check(task: Task, flags: Any) -> None:
    if task.suffix == ".png" and flags.frame_num not in (None, 1):
        raise InputError(
            f"--frame_num {flags.frame_num}: {task.name} makes one picture",
            hint="leave it out; for a video: --task t2v-14B",
            code="frame-count",
        )
    if flags.exact and flags.attention_slicing:
        raise InputError(
            "--attention_slicing rounds differently, which --exact rules out",
            hint="leave one of them out",
            code="pin-not-exact",
        )


def _numbers(spec: GraphSpec, flags: Any) -> dict[str, int | float]:
    values = {flag: getattr(flags, flag) for flag in _INPUTS}
    return {
        name: values[flag]
        for flag, names in _INPUTS.items()
        for name in names
        if name in spec.inputs and values[flag] is not None
    }


def _folder(folder: str | None) -> Path:
    if folder is None:
        raise InputError(
            "--ckpt_dir is missing: the folder with the weights",
            hint="add --ckpt_dir DIR, such as Wan2.1-T2V-1.3B",
            code="no-weights",
        )
    path = Path(folder).expanduser()
    if path.is_file():
        raise InputError(
            f"--ckpt_dir {printable(folder)}: is a file",
            hint="name its folder; of single files: wanflow run --weights MODEL=FILE",
            code="weights-file",
        )
    if not path.is_dir():
        raise WeightsError(
            f"--ckpt_dir {printable(folder)}: no such folder", code="missing-weights"
        )
    # An absolute path: a relative one with a `=` in it would read as MODEL=PATH.
    return path.absolute()


def _precision(spec: GraphSpec, flags: Any) -> Iterator[str]:
    for name, model in spec.models.items():
        if flags.precision is not None and model.part in _PRECISE_PARTS:
            yield f"{name}={flags.precision}"


def _settings(spec: GraphSpec, flags: Any) -> Iterator[str]:
    if flags.sample_solver is not None:
        yield from (f"{stage}.sampler={flags.sample_solver}" for stage in _of(spec, "denoise"))
    yield from (f"{stage}.grid={flags.sampler_grid}" for stage in _of(spec, "denoise"))


def _pins(spec: GraphSpec, flags: Any) -> Iterator[str]:
    """The choices that memory flags take from the planner."""
    texts = _of(spec, "encode_text")
    for name, stage in spec.stages.items():
        if flags.t5_cpu and name in texts:
            yield f"{name}.weights=stream"
        elif flags.offload_model is not None and stage.model is not None:
            yield f"{name}.weights={'stream' if flags.offload_model else 'resident'}"
    if flags.attention_slicing is not None:
        rows = _SLICED_ROWS if flags.attention_slicing else "all"
        yield from (f"{stage}.rows={rows}" for stage in _of(spec, "denoise"))


def _of(spec: GraphSpec, op: str) -> Sequence[str]:
    return [name for name, stage in spec.stages.items() if stage.op.name == op]


def _notes(
    task: Task, spec: GraphSpec, flags: Any, reasons: Sequence[str], drawn: int | None
) -> Iterator[str]:
    yield from filter(None, reasons)
    if flags.prompt is None:
        yield f"no --prompt: it is the example of {task.name}: {task.example}"
    if "src_video" in task.takes and not any(getattr(flags, flag) for flag in task.takes):
        yield (
            f"{task.name} with neither --src_video nor --src_ref_images: the prompt alone decides; "
            "generate.py's example pictures are not here"
        )
    if flags.convert_model_dtype:
        own = next(m.precision for m in spec.models.values() if m.part == "transformer")
        yield (
            "--convert_model_dtype changes nothing: the transformer's weights are "
            f"{flags.precision or own} with or without it"
        )
    if flags.t5_cpu:
        yield (
            "--t5_cpu: the text encoder still runs on the device, with half a layer's weights "
            "there at a time: that saves the memory, and waits for no CPU"
        )
    if flags.log_path is not None and not flags.profile_memory:
        yield "--log_path without --profile_memory true: nothing is written there"
    if drawn is not None:
        kind = "picture" if task.suffix == ".png" else "video"
        yield f"seed {drawn}, drawn; the same {kind} again: --base_seed {drawn}"
