"""The options that `run` and `plan` share, and the request they make together."""

from collections.abc import Callable, Iterator
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from wanflow.environment import DEVICE, VRAM
from wanflow.errors import InputError

if TYPE_CHECKING:
    from wanflow.session import Request

Json = Annotated[bool, Option("--json", help="Print one JSON value instead of text.")]
AllowNonfinite = Annotated[
    bool,
    Option("--allow-nonfinite", help="Go on with NaN or infinity in what a step leaves."),
]
Many = list[str] | None
Until = Annotated[
    str,
    Option(
        metavar="STAGE:STEP",
        help="Stop after that step, from 1, with a preview; resume goes on: denoise:10.",
    ),
]
Every = Annotated[
    int | None,
    Option(metavar="N", min=1, help="A preview every N steps, and at the last.", show_default="1"),
]


def gather(
    graph: Annotated[str, Argument(metavar="GRAPH", help="A path, or a shipped graph's name.")],
    inputs: Annotated[
        Many, Option("--input", "-i", metavar="NAME=VALUE", help="An input of the graph.")
    ] = None,
    prompt: Annotated[str | None, Option(metavar="TEXT", help="Short for -i prompt=TEXT.")] = None,
    seed: Annotated[int | None, Option(metavar="N", help="Short for -i seed=N.")] = None,
    vram: Annotated[
        str,
        Option(metavar="SIZE", envvar=VRAM.name, help="8GiB, 8GB, 123456B, 80% or auto."),
    ] = VRAM.default,
    ram: Annotated[
        str | None, Option(metavar="SIZE", help="Bound on pinned and staged host memory.")
    ] = None,
    device: Annotated[
        str, Option(metavar="NAME", envvar=DEVICE.name, help="auto, cuda, cuda:N or cpu.")
    ] = DEVICE.default,
    devices: Annotated[
        str,
        Option(
            metavar="LIST", help="Several that share one video: cuda:0,cuda:1; to plan rtx4090*4."
        ),
    ] = "",
    weights: Annotated[
        Many,
        Option(metavar="[MODEL=]PATH", help="Where weights are; else WANFLOW_MODELS is looked in."),
    ] = None,
    precision: Annotated[
        Many,
        Option(
            metavar="[MODEL=]TYPE",
            help="bf16, fp16 or fp32; int8 or fp8 for weights: changes the picture.",
        ),
    ] = None,
    loras: Annotated[
        Many,
        Option(
            "--lora",
            metavar="[MODEL=]FILE[@WEIGHT]",
            help="A LoRA for one transformer, or for all that it fits; several add up.",
        ),
    ] = None,
    settings: Annotated[
        Many, Option("--set", metavar="STAGE.PARAM=VALUE", help="Another value for a parameter.")
    ] = None,
    sampler_grid: Annotated[
        str | None,
        Option(metavar="NAME", help="official or diffusers: --set of the grid of every denoiser."),
    ] = None,
    pins: Annotated[
        Many, Option("--pin", metavar="STAGE.KNOB=VALUE", help="Take a choice from the planner.")
    ] = None,
    *,
    lora_partial: Annotated[
        bool, Option("--lora-partial", help="Run a LoRA without what nothing takes of it.")
    ] = False,
    exact: Annotated[
        bool, Option("--exact", help="Only choices that leave every bit of the result alone.")
    ] = False,
    no_prompt_cache: Annotated[
        bool, Option("--no-prompt-cache", help="Encode prompts anew; keep none.")
    ] = False,
    no_probe: Annotated[
        bool, Option("--no-probe", help="Don't measure a CPU that nothing is known of.")
    ] = False,
    allow_nonfinite: AllowNonfinite = False,
    preview: Annotated[
        bool,
        Option("--preview", help="Show and keep a small picture of the clip after each step."),
    ] = False,
    preview_every: Every = None,
) -> "Request":
    """Make the request of a command line."""
    values = _inputs(inputs or [], prompt=prompt, seed=seed)
    from wanflow.session import Request

    return Request(
        graph=graph,
        inputs=values,
        vram=vram,
        ram=ram,
        device=device,
        devices=devices,
        weights=tuple(weights or ()),
        precision=tuple(precision or ()),
        settings=(*(settings or ()), *_grids(graph, sampler_grid)),
        pins=tuple(pins or ()),
        exact=exact,
        prompt_cache=not no_prompt_cache,
        probe=not no_probe,
        allow_nonfinite=allow_nonfinite,
        loras=tuple(loras or ()),
        lora_partial=lora_partial,
        preview_every=preview_every or int(preview),
    )


def _grids(graph: str, name: str | None) -> Iterator[str]:
    """The settings that give each denoising stage of a graph a grid."""
    if name is None:
        return
    from wanflow.graph.load import load

    stages = [stage for stage in load(graph).spec.stages.values() if "grid" in stage.op.params]
    if not stages:
        raise InputError(f"--sampler-grid: nothing of {graph!r} denoises", code="no-sampler")
    yield from (f"{stage.name}.grid={name}" for stage in stages)


def takes_request(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of `gather` in front of its own."""
    shared = signature(gather).parameters
    own = list(signature(command).parameters.values())[1:]

    def wrapper(**options: Any) -> int:
        request = gather(**{name: options.pop(name) for name in shared})
        return command(request, **options)

    parameters = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in (*shared.values(), *own)]
    wrapper.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    return wrapper


def _inputs(pairs: list[str], *, prompt: str | None, seed: int | None) -> dict[str, str]:
    inputs = [_pair(pair) for pair in pairs]
    inputs += [("prompt", prompt)] if prompt is not None else []
    inputs += [("seed", str(seed))] if seed is not None else []
    values: dict[str, str] = {}
    for name, value in inputs:
        if name in values:
            raise InputError(f"input {name!r} is given twice", code="input-twice")
        values[name] = value
    return values


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InputError(
            f"-i {text!r} is not NAME=VALUE", hint="write -i frames=81", code="bad-input"
        )
    return name.strip(), value
