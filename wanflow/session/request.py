"""What a user asks for: a graph, its inputs, budgets and options, as text from the command line."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from wanflow.errors import InputError
from wanflow.graph import Size
from wanflow.models.precisions import PACKINGS, PRECISIONS

PACKED_PARTS = ("transformer", "text_encoder")


@attrs.frozen
class Request:
    """One job. `vram` and `ram` are sizes as text (`8GiB`, `80%`, `auto`).

    `prompt_cache`: whether a prompt that was encoded before may be read, and a new one kept.
    `probe`: whether a CPU that nothing is known of is measured first.
    `metadata`: whether the video holds what it was made from.
    `own_configs`: whether weights that say a model's shape are believed before the graph is.
    `any_shape`: whether a size may be an area alone, as Wan's own command line has it with a video.
    `loras`: `[MODEL=]FILE[@WEIGHT]`, one after another; `lora_partial`: whether one is used without
    what nothing takes of it.
    `devices`: several of them, `cuda:0,cuda:1`, that share one video; `vram` may then have a size a
    device, `8GiB,6GiB`.
    `allow_nonfinite`: whether a run goes on with NaN or infinity in what a step leaves.
    `preview_every`: a preview of every so many steps, and of the last; 0 for none.
    `until`: `STAGE:STEP`, counted from 1: the run stops after it, with a preview, and can go on.
    """

    graph: str
    inputs: Mapping[str, str | int | float | Size] = attrs.field(factory=dict)
    vram: str = "auto"
    ram: str | None = None
    device: str = "auto"
    weights: tuple[str, ...] = ()
    precision: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    exact: bool = False
    machine: str | None = None
    prompt_cache: bool = True
    probe: bool = True
    own_configs: bool = False
    metadata: bool = True
    any_shape: bool = False
    allow_nonfinite: bool = False
    loras: tuple[str, ...] = ()
    lora_partial: bool = False
    devices: str = ""
    preview_every: int = 0
    until: str = ""


def pairs(texts: Sequence[str], option: str, form: str) -> dict[str, str]:
    """Read `KEY=VALUE` options; InputError for one without `=` or given twice."""
    values: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise InputError(f"{option} {text!r} is not {form}", code="bad-option")
        if key in values:
            raise InputError(f"{option} {key} is given twice", code="bad-option")
        values[key] = value
    return values


def precisions(texts: Sequence[str], models: Mapping[str, str]) -> dict[str, str]:
    """Return every model's precision: *models* has the graph's own; `[MODEL=]bf16` overrides."""
    return dict(models) | _chosen(texts, models, PRECISIONS)


def packings(texts: Sequence[str], parts: Mapping[str, str]) -> dict[str, str]:
    """Return how the weights of models are packed, by model: *parts* has the part that each is.

    Without a model `int8` means all that can be; InputError for a model that can't.
    """
    able = {name for name, part in parts.items() if part in PACKED_PARTS}
    for text in texts:
        name, separator, value = text.rpartition("=")
        if value in PACKINGS and separator and name in parts and name not in able:
            raise InputError(
                f"--precision {text!r}: {name!r} is a {parts[name]}, whose weights are not packed",
                hint="packed are " + (", ".join(sorted(able)) or "transformers and text encoders"),
                code="bad-precision",
            )
    return {name: kind for name, kind in _chosen(texts, parts, PACKINGS).items() if name in able}


def _chosen(
    texts: Sequence[str], models: Mapping[str, object], values: Collection[str]
) -> dict[str, str]:
    """What `[MODEL=]VALUE` texts choose of *values*; InputError for what is of no kind."""
    chosen: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.rpartition("=")
        if value not in PRECISIONS and value not in PACKINGS:
            raise InputError(
                f"--precision {text!r}: {value!r} is no precision",
                hint=f"allowed: {', '.join([*PRECISIONS, *PACKINGS])}",
                code="bad-precision",
            )
        if separator and name not in models:
            raise InputError(
                f"--precision {text!r}: the graph has no model {name!r}",
                hint=f"its models are {', '.join(models)}",
                code="unknown-model",
            )
        if value in values:
            chosen.update({name: value} if separator else dict.fromkeys(models, value))
    return chosen
