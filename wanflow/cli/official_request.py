"""From Wan2.1's flags to a request: inputs of the task's graph, pins, settings, and what to say."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from wanflow.cli.official_tasks import TASKS, Task, find_size, find_task
from wanflow.errors import InputError, WeightsError
from wanflow.graph.load import load
from wanflow.graph.ops import LARGEST_SEED
from wanflow.graph.spec import GraphSpec
from wanflow.terminal.safe import printable

if TYPE_CHECKING:
    from wanflow.session import Request

_PICTURES = ("image", "first_frame", "last_frame")
_INPUTS = {  # of a graph, by flag
    "frame_num": "frames",
    "sample_steps": "steps",
    "sample_shift": "shift",
    "sample_guide_scale": "guidance",
}
_SLICED_ROWS = "1024"
_PRECISE_PARTS = ("text_encoder", "transformer")  # upstream computes the VAE in fp32, CLIP in fp16


@attrs.frozen
class TranslatedFlags:
    """What the flags mean for a graph; `notes` are for the person."""

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
            metadata=not flags.no_metadata,
            allow_nonfinite=flags.allow_nonfinite,
        )


def read(flags: Any) -> TranslatedFlags:
    """Say what *flags* (of `official.parse`) ask for; InputError, WeightsError for what can't be.

    A seed is drawn where none is given.
    """
    task = find_task(flags.task)
    size, why = find_size(task, flags.size, flags.ckpt_dir or "")
    pictures = _pictures(task, flags)
    if flags.exact and flags.attention_slicing:
        raise InputError(
            "--attention_slicing rounds differently, which --exact rules out",
            hint="leave one of them out",
            code="pin-not-exact",
        )
    weights = _weights(flags.ckpt_dir)
    graph = task.graphs[size]
    spec = load(graph).spec
    drawn = flags.base_seed < 0
    seed = secrets.randbelow(LARGEST_SEED + 1) if drawn else flags.base_seed
    values = {name: getattr(flags, flag) for flag, name in _INPUTS.items()}
    inputs = {
        "prompt": task.example if flags.prompt is None else flags.prompt,
        "size": size,
        "seed": seed,
        **{name: value for name, value in values.items() if value is not None},
        **pictures,
    }
    return TranslatedFlags(
        graph,
        inputs,
        weights,
        tuple(_precision(spec, flags)),
        tuple(_settings(spec, flags)),
        tuple(_pins(spec, flags)),
        tuple(_notes(task, flags, why, seed if drawn else None)),
    )


def _pictures(task: Task, flags: Any) -> dict[str, str]:
    """The pictures by input; InputError names the flag that lacks or is too many."""
    for flag in _PICTURES:
        path = getattr(flags, flag)
        if path is not None and flag not in task.pictures:
            takers = [other.name for other in TASKS.values() if flag in other.pictures]
            wanted = " and ".join(f"--{name}" for name in task.pictures) or "no picture"
            raise InputError(
                f"--{flag}: {task.name} takes {wanted}",
                hint=f"--{flag} is for {', '.join(takers)}",
                code="picture-not-taken",
            )
        if path is None and flag in task.pictures:
            raise InputError(
                f"--{flag} is missing: {task.name} starts from it",
                hint=f"add --{flag} FILE, a picture",
                code="picture-missing",
            )
        if path is not None and not Path(path).expanduser().is_file():
            what = "is a folder" if Path(path).expanduser().is_dir() else "no such file"
            raise InputError(f"--{flag} {printable(path)}: {what}", code="missing-file")
    return {name: getattr(flags, flag) for flag, name in task.pictures.items()}


def _weights(folder: str | None) -> str:
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
    return str(path.absolute())


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


def _notes(task: Task, flags: Any, why: str, drawn: int | None) -> Iterator[str]:
    if why:
        yield why
    if flags.prompt is None:
        yield f"no --prompt: it is the example of {task.name}: {task.example}"
    if flags.t5_cpu:
        yield (
            "--t5_cpu: the text encoder still runs on the device, with half a layer's weights "
            "there at a time: that saves the memory, and waits for no CPU"
        )
    if flags.log_path is not None and not flags.profile_memory:
        yield "--log_path without --profile_memory true: nothing is written there"
    if drawn is not None:
        yield f"seed {drawn}, drawn; the same video again: --base_seed {drawn}"
