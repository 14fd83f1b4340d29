"""Say what weights on disk are: their parts, which graphs they serve, and what they lack."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import attrs

from wanflow.errors import WeightsError
from wanflow.graph.configs import EXPERTS
from wanflow.graph.load import load, shipped_graphs
from wanflow.graph.spec import ModelSpec
from wanflow.models.bound import unused
from wanflow.models.segments.build import allowed, build
from wanflow.models.weights.checkpoint import Checkpoint
from wanflow.models.weights.entry import Entry
from wanflow.models.weights.hub_cache import repositories, snapshot_of
from wanflow.models.weights.kinds import PATCHES, has_vace, is_residual
from wanflow.models.weights.layout_config import config_of, is_told
from wanflow.models.weights.layouts import PARTS, find_part, open_part
from wanflow.models.weights.pipeline import check_pipeline, experts, half_of, said_of_expert
from wanflow.models.weights.tokenizer import find_tokenizer

Shapes = Mapping[str, tuple[int, ...]]
Known = Mapping[tuple[str, str], Mapping[str, Shapes]]  # by part and expert, by configuration


@attrs.frozen
class Misshapen:
    """A tensor of another shape than its module wants."""

    tensor: str
    shape: tuple[int, ...]
    wanted: tuple[int, ...]


@attrs.frozen
class PackedKind:
    """The packed tensors of one type: how many, and their names with `*` for numbers."""

    type: str
    count: int
    tensors: Sequence[str]


@attrs.frozen
class ModelPart:
    """A part that was found, against the known configuration that it is nearest to.

    `fits` names every configuration that it is a whole model of; `missing`, `misshapen` and `over`
    (tensors that nothing takes) are told against `nearest`. A part that cannot be read, or not be
    used, has a `problem`.
    """

    part: str
    place: str
    expert: str = ""  # of two transformers
    layout: str = ""
    prefix: str = ""  # before its keys
    files: Mapping[str, int] = attrs.field(factory=dict)
    tensors: int = 0
    nbytes: int = 0
    dtypes: Mapping[str, int] = attrs.field(factory=dict)
    format: str = ""  # of packed weights
    packed: Sequence[PackedKind] = ()
    fits: Sequence[str] = ()
    nearest: str | None = None
    missing: Sequence[str] = ()
    misshapen: Sequence[Misshapen] = ()
    over: Sequence[str] = ()
    notes: Sequence[str] = ()
    problem: str = ""


@attrs.frozen
class Served:
    """A shipped graph, and what of it the weights lack; nothing where it can be run."""

    graph: str
    lacks: Sequence[str]


@attrs.frozen
class Inspected:
    """What *path* has."""

    path: str
    parts: Sequence[ModelPart]
    tokenizer: str | None
    graphs: Sequence[Served]

    @property
    def is_whole(self) -> bool:
        """Whether something was found and all of it can be used as it is."""
        return bool(self.parts) and not any(
            p.problem or p.missing or p.misshapen for p in self.parts
        )


def inspect(path: Path) -> Inspected:
    """Look at a folder or a file of weights, without reading their data.

    WeightsError when there is no such path, or no part of a model in it.
    """
    if not path.exists():
        raise WeightsError(f"{path}: no such file or folder", code="missing-weights")
    path = snapshot_of(path)
    check_pipeline(path)
    graphs = {name: load(file).spec.models for name, file in shipped_graphs().items()}
    shapes = _known_shapes([spec for models in graphs.values() for spec in models.values()])
    parts = [_file(path, shapes)] if path.is_file() else list(_folder(path, shapes))
    if not parts:
        names = repositories(path)
        raise WeightsError(
            f"{path}: no part of a model is there",
            hint=f"give the folder of one model: {names}"
            if names
            else "a folder of diffusers or an official one, or a file of weights",
            code="missing-weights",
        )
    tokenizer = _tokenizer(parts)
    served = [Served(name, _lacks(models, parts, tokenizer)) for name, models in graphs.items()]
    return Inspected(str(path), parts, tokenizer, served)


def _known_shapes(specs: Sequence[ModelSpec]) -> Known:
    """The parameters of each part in every configuration that a shipped graph names."""
    shapes: dict[tuple[str, str], dict[str, Shapes]] = defaultdict(dict)
    for spec in specs:
        if spec.fields is not None:
            fields = json.dumps(dict(spec.fields), sort_keys=True)
            shapes[spec.part, spec.expert][spec.config] = _shapes_of(spec.part, fields)
    return shapes


@functools.cache  # most models have one text encoder
def _shapes_of(part: str, fields: str) -> Shapes:
    parameters = build(part, json.loads(fields)).named_parameters()
    return {name: tuple(parameter.shape) for name, parameter in parameters}


def _folder(path: Path, shapes: Known) -> list[ModelPart]:
    parts = []
    for part, expert in _sought(path):
        try:
            place = find_part(path, part, expert)
            if place is not None:
                checkpoint = open_part(part, place)
                parts.append(_part(part, place, checkpoint, shapes[part, expert], expert))
            elif expert:
                raise half_of(path, expert)
        except WeightsError as error:
            parts.append(ModelPart(part, str(path), expert, problem=error.message))
    return parts


def _sought(path: Path) -> Iterator[tuple[str, str]]:
    """The parts that *path* may have: a transformer, or each of two experts."""
    for part in PARTS:
        has_two = part == "transformer" and experts(path) is not None
        yield from ((part, expert) for expert in (EXPERTS if has_two else ("",)))


def _file(path: Path, shapes: Known) -> ModelPart:
    """A file is the part whose names it has the most of."""
    try:
        opened = {part: open_part(part, path) for part in PARTS}
    except WeightsError as error:
        return ModelPart("", str(path), problem=error.message)

    def common(part: str) -> int:
        names = set(opened[part].weights)
        shared = [len(names & known.keys()) for known in shapes[part, ""].values()]
        official = len(names) if opened[part].is_official else 0
        return max([*shared, official])

    part = max(PARTS, key=common)
    if not common(part):
        return ModelPart("", str(path), problem="its tensors are of no part that is known")
    return _part(part, path, opened[part], shapes[part, ""])


def _part(
    part: str,
    place: Path,
    checkpoint: Checkpoint,
    shapes: Mapping[str, Shapes],
    expert: str = "",
) -> ModelPart:
    entries = checkpoint.weights
    files = sorted({entry.path for entry in checkpoint.entries.values()})
    dtypes: Counter[str] = Counter()
    for entry in checkpoint.entries.values():
        dtypes[entry.dtype_name] += entry.nbytes
    model_part = ModelPart(
        part,
        str(place),
        expert,
        layout="official" if checkpoint.is_official else "diffusers",
        prefix=checkpoint.prefix,
        notes=[*checkpoint.notes, *_said(part, place, entries, expert)],
        files={file.name: file.stat().st_size for file in files},
        tensors=len(entries),
        nbytes=sum(dtypes.values()),
        dtypes=dict(dtypes),
        format=checkpoint.format,
        packed=_packed(checkpoint),
    )
    faults = {name: _faults(checkpoint, wanted) for name, wanted in shapes.items()}
    if not faults:
        return model_part
    alike = {name: has_vace(wanted) == has_vace(entries) for name, wanted in shapes.items()}
    nearest = min(faults, key=lambda n: (len(faults[n][0]) + len(faults[n][1]), not alike[n]))
    missing, misshapen = faults[nearest]
    numbers = [n for n in shapes[nearest] if n in entries and not entries[n].is_weight]
    return attrs.evolve(
        model_part,
        fits=[n for n, lists in faults.items() if not any(lists) and alike[n] and not numbers],
        problem=_no_floats(checkpoint, numbers) if numbers else "",
        nearest=nearest,
        missing=missing,
        misshapen=misshapen,
        over=unused(shapes[nearest].keys(), checkpoint),
    )


def _packed(checkpoint: Checkpoint) -> list[PackedKind]:
    """The packed tensors by their types, the most frequent first."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, form in checkpoint.forms.items():
        names[form.name].append(re.sub(r"(?<=\.)\d+(?=\.)", "*", name))
    kinds = [PackedKind(kind, len(all_), sorted(set(all_))) for kind, all_ in names.items()]
    return sorted(kinds, key=lambda kind: -kind.count)


def _said(part: str, place: Path, entries: Mapping[str, Entry], expert: str) -> Iterator[str]:
    """What a person should know of a part that its place or its tensors tell."""
    if part == "transformer":
        if not expert and (said := said_of_expert(place)):
            yield said
        if has_vace(entries):
            alone = "" if PATCHES in entries else ", and is VACE's part alone"
            yield f"has VACE's blocks{_vace_layers(place, entries)}{alone}"
    if part == "vae" and is_residual(entries):
        yield "Wan 2.2's, whose latents have 48 channels and stand for 16*16 pixels"


def _vace_layers(place: Path, entries: Mapping[str, Entry]) -> str:
    """The layers that VACE's blocks are beside, where a `config.json` says it."""
    with suppress(WeightsError):
        if is_told("transformer", place):
            config = allowed("transformer", *config_of("transformer", place, entries))
            return f" beside layers {', '.join(map(str, config.get('vace_layers') or ()))}"
    return ""


def _no_floats(checkpoint: Checkpoint, names: Sequence[str]) -> str:
    first = checkpoint.weights[names[0]]
    text = f"of {len(names)} tensors that are no floats the first is {names[0]!r}"
    return f"{text} ({first.dtype_name})"


def _faults(checkpoint: Checkpoint, shapes: Shapes) -> tuple[list[str], list[Misshapen]]:
    entries = checkpoint.weights
    missing = [name for name in shapes if name not in entries]
    misshapen = [
        Misshapen(entries[name].stored_as or name, entries[name].shape, shape)
        for name, shape in shapes.items()
        if name in entries and entries[name].is_weight and entries[name].shape != shape
    ]
    return missing, misshapen


def _tokenizer(parts: Sequence[ModelPart]) -> str | None:
    text = next((p for p in parts if p.part == "text_encoder" and not p.problem), None)
    try:
        return str(find_tokenizer(Path(text.place))) if text else None
    except WeightsError:
        return None


def _lacks(
    models: Mapping[str, ModelSpec], parts: Sequence[ModelPart], tokenizer: str | None
) -> list[str]:
    fits = {(part.part, part.expert): part.fits for part in parts}
    lacks = [
        f"{spec.part} {spec.expert}".rstrip()
        for spec in models.values()
        if spec.config not in fits.get((spec.part, spec.expert), ())
    ]
    wants_text = any(spec.part == "text_encoder" for spec in models.values())
    return [*lacks, "tokenizer"] if wants_text and tokenizer is None else lacks
