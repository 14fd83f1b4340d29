"""Find a model's weights: `--weights`, WANFLOW_MODELS, the graph's `path`, downloads, bundled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from wanflow.environment import MODELS
from wanflow.errors import InputError, WeightsError
from wanflow.files.folders import HOMELESS, PACKAGE, data_folder
from wanflow.graph.configs import EXPERTS
from wanflow.graph.spec import ModelSpec
from wanflow.models.weights.hub_cache import cached, repositories, snapshot_of
from wanflow.models.weights.layouts import find_part
from wanflow.models.weights.pipeline import PAIRS, expert_folder, worded

BUNDLED = PACKAGE / "bundled"
_NAMED = 5  # files in a message
# What Wan-AI publishes on the hub, by the names that the graphs have for it.
_PUBLISHED = frozenset({
    "Wan2.1-T2V-1.3B", "Wan2.1-T2V-14B", "Wan2.1-I2V-14B-480P", "Wan2.1-I2V-14B-720P",
    "Wan2.1-FLF2V-14B-720P", "Wan2.1-VACE-1.3B", "Wan2.1-VACE-14B", "Wan2.2-T2V-A14B",
    "Wan2.2-I2V-A14B", "Wan2.2-TI2V-5B",
})  # fmt: skip


@attrs.frozen
class WeightsOption:
    """`[MODEL=]PATH` from the command line; no model means every model."""

    model: str | None
    path: Path


def parse_weights(options: Sequence[str], models: Sequence[str]) -> tuple[WeightsOption, ...]:
    """Read `--weights` options; InputError for an unknown model or a path that is not there."""
    places = []
    for text in options:
        name, separator, path = text.partition("=")
        model = name if separator and name in models else None
        if separator and model is None and not Path(text).exists():
            raise InputError(
                f"--weights {text!r}: the graph has no model {name!r}",
                hint=f"its models are {', '.join(models)}",
                code="unknown-model",
            )
        place = Path(path if model is not None else text).expanduser()
        if not place.exists():
            raise WeightsError(f"--weights {place}: no such file or folder", code="missing-weights")
        if place.is_file() and model is None and len(models) > 1:
            raise InputError(
                f"--weights {place}: is a file; say which model it is",
                hint=f"--weights MODEL={place}, of {', '.join(models)}",
                code="unknown-model",
            )
        places.append(WeightsOption(model, snapshot_of(place)))
    return tuple(places)


def locate(spec: ModelSpec, options: Sequence[WeightsOption], graph_file: Path) -> Path | None:
    """Return the place of a model's part (see `layouts`), or None when it is nowhere.

    A given `--weights` that lacks the part is an error and not passed over in silence; one for this
    model comes before one for all. Of several for this model it is the first (see `laid_over`).
    """
    for option in sorted(options, key=lambda option: option.model is None):
        if option.model in (None, spec.name):
            return _place(option, spec)
    folders = (snapshot_of(folder) for folder in _folders(spec, graph_file))
    places = (find_part(folder, spec.part, spec.expert) for folder in folders)
    place = next((place for place in places if place is not None), None)
    # The bundled model has one transformer, which is either expert of a graph that asks for two.
    bundled = BUNDLED / spec.config if spec.config else None
    return place or (find_part(bundled, spec.part) if bundled is not None else None)


def laid_over(spec: ModelSpec, options: Sequence[WeightsOption]) -> tuple[Path, ...]:
    """Return the further places of a model's part, whose tensors come beside those of the first."""
    own = [option for option in options if option.model == spec.name]
    return tuple(_place(option, spec) for option in own[1:])


def _place(option: WeightsOption, spec: ModelSpec) -> Path:
    place = find_part(option.path, spec.part, spec.expert)
    if place is None:
        raise _without(option.path, spec)
    return place


def _own_folder(folder: Path, spec: ModelSpec) -> Path:
    """Where a part would be in *folder*: an expert by its official name, unless it has others."""
    if not spec.expert:
        return folder / spec.part
    official = PAIRS[1][EXPERTS.index(spec.expert)]
    return expert_folder(folder, spec.expert) or folder / official


def _without(path: Path, spec: ModelSpec) -> WeightsError:
    """The error for weights that lack a part: says what lies where it would be."""
    own = _own_folder(path, spec)
    there = sorted(file.name for file in own.iterdir()) if own.is_dir() else []
    what = f"{worded(spec.expert)} expert" if spec.expert else spec.part
    only = f"; in {own} there is only {', '.join(there[:_NAMED])}" if there else ""
    hint = f"expected {own}/*.safetensors or the official file"
    if names := repositories(path):
        only, hint = "; it is the hub's cache", f"give the folder of one model: {names}"
    return WeightsError(
        f"--weights {path}: has no {what} for model {spec.name!r}{only}",
        hint=hint,
        code="missing-weights",
    )


def _folders(spec: ModelSpec, graph_file: Path) -> Iterator[Path]:
    models = MODELS.value
    if models and spec.path:
        yield Path(models).expanduser() / spec.path
        yield from cached(Path(models).expanduser(), Path(spec.path).name)
    if models:
        yield Path(models).expanduser()
    if spec.path:
        yield graph_file.parent / Path(spec.path).expanduser()
    if spec.path:
        yield data_folder() / "models" / spec.path


def downloads_folder() -> Path:
    """Where a download goes that was not told where: into WANFLOW_MODELS, or the user's data."""
    models = MODELS.value
    folder = Path(models).expanduser() if models else data_folder() / "models"
    if HOMELESS in folder.parents:
        raise InputError(
            "there is no home directory to download to",
            hint="give --to FOLDER or set WANFLOW_MODELS",
            code="no-home",
        )
    return folder


def missing(spec: ModelSpec, graph_file: Path) -> WeightsError:
    """The error for weights that are nowhere: says where was looked."""
    looked = [str(_own_folder(folder, spec)) for folder in _folders(spec, graph_file)]
    where = ", ".join(looked) if looked else "no folder was named"
    what = f"{spec.part}, {worded(spec.expert)} expert" if spec.expert else spec.part
    name = Path(spec.path or "").name
    download = f"; or: wanflow models download Wan-AI/{name}" if name in _PUBLISHED else ""
    return WeightsError(
        f"no weights for model {spec.name!r} ({what}); looked in: {where}",
        hint=f"give --weights PATH or set WANFLOW_MODELS{download}",
        code="missing-weights",
    )
