"""From a graph's model to one the scheduler can run: config, meta module, segments, weights."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from wanflow.graph.spec import ModelSpec
from wanflow.models.segments.build import allowed, build
from wanflow.models.weights.kinds import check_kind, has_vace
from wanflow.models.weights.layout_config import config_of, is_told
from wanflow.models.weights.layouts import laid_over, open_part
from wanflow.models.weights.locate import missing
from wanflow.models.weights.pipeline import said_of_expert
from wanflow.scheduler.profile import kind_cache
from wanflow.scheduler.profile.cache_key import conditions

if TYPE_CHECKING:
    import torch

    from wanflow.models.adapters.of_model import Adapters, Lora
    from wanflow.models.packing.form import Form
    from wanflow.models.segments.cut import BoundModule
    from wanflow.models.segments.discover import Segmentation
    from wanflow.models.weights.checkpoint import Checkpoint
    from wanflow.scheduler.run.streamer import WeightSource

_ENCODERS = {"encode_frames", "encode_control"}  # ops that run a VAE's encoder
_NAMED = 3  # tensors in a line; `models inspect` names all


def segmentation_of(
    part: str, module: torch.nn.Module, ops: Collection[str] = ("decode_frames",)
) -> Segmentation:
    """Find the segments of a part's module, as the stages of *ops* run it.

    Of a VAE that means its decoder, its encoder, or both.
    """
    from wanflow.models.segments.discover import Segmentation, discover
    from wanflow.models.wan import clip, dit, dit_vace, umt5

    if part == "vae":
        from wanflow.models.wan import vae, vae_encoder  # with diffusers, which only a VAE needs

        encodes = not _ENCODERS.isdisjoint(ops)
        segmentations = [vae_encoder.segmentation(module)] if encodes else []
        if "decode_frames" in ops or not segmentations:
            segmentations.append(discover(module, vae.walk))
        return Segmentation.joined(segmentations)
    if part == "image_encoder":
        return discover(module, clip.walk)
    if hasattr(module, dit_vace.LAYERS):
        return dit_vace.segmentation(module)
    driver = umt5 if part == "text_encoder" else dit
    return discover(module, driver.walk, (driver.LAYERS,))


_SEGMENTATIONS: dict[tuple[str, str, frozenset[str]], Segmentation] = {}  # of this process


def _segmentation_once(
    part: str, config: Mapping[str, object], module: torch.nn.Module, ops: Collection[str]
) -> Segmentation:
    """Find the segments of a module, or those of one that was built of the same config before.

    A module's forward on fake tensors takes longer than all else of a plan whose costs are known.
    What was found is kept on disk, too.
    """
    from wanflow.models.segments.kept import kept_segmentation

    fields = json.dumps(dict(config), sort_keys=True, default=repr)
    key = (part, fields, frozenset(ops))
    if key not in _SEGMENTATIONS:
        identity = [part, fields, sorted(ops), conditions("cpu")]
        _SEGMENTATIONS[key] = kept_segmentation(
            kind_cache.folder(), identity, module, lambda: segmentation_of(part, module, ops)
        )
    return _SEGMENTATIONS[key]


@attrs.frozen
class LocatedModel:
    """A model of the graph with its module and, where they were found, its weights.

    With *packing* (`int8`, `fp8`) the large weights are packed as they are read, unless their file
    has them packed.

    `config` has the known fields that are stated. The module is built when it is first asked for:
    what was planned before, without weights, is planned again without it.
    """

    spec: ModelSpec
    precision: str
    config: Mapping[str, Any]
    folder: Path | None
    checkpoint: Checkpoint | None
    _where: str
    _ops: frozenset[str]
    packing: str = ""
    loras: tuple[Lora, ...] = ()
    _made: dict[str, str] = attrs.field(factory=dict, init=False)
    _adapters: dict[str, Adapters] = attrs.field(factory=dict, init=False)

    @functools.cached_property
    def model(self) -> BoundModule:
        """The module, cut into segments; WeightsError where the weights are not what it needs."""
        from wanflow.models.packing.linear import pieces_of, put_in
        from wanflow.models.segments.cut import DTYPES, BoundModule
        from wanflow.models.weights.checkpoint import STAGING_BYTES

        part, checkpoint = self.spec.part, self.checkpoint
        module = build(part, self.config, self._where)
        segmentation = _segmentation_once(part, self.config, module, self._ops)
        adapters = self._adapters_of(module)
        forms = self._forms(module)
        if checkpoint is not None:
            for name in forms.keys() & checkpoint.forms.keys():
                checkpoint.check_weight(name, tuple(module.get_parameter(name).shape))
        put_in(module, forms, DTYPES[self.precision])
        instead = {name: pieces_of(module, name) for name in forms}
        for path, names in adapters.put_in(module).items():
            weight = f"{path}.weight"
            instead[weight] = [*instead.get(weight, [weight]), *names]
        segmentation = segmentation.with_instead(instead)
        read_bytes = self._read_bytes(module)
        read_bytes |= adapters.read_bytes(_sizes(module, adapters.read, self.precision))
        bound = BoundModule(self.spec.name, module, segmentation, 0, self.precision, read_bytes)
        if checkpoint is not None:
            _check(bound, part, checkpoint, adapters.pieces)
        bound.staging_bytes = _staging_bytes(bound, part, checkpoint, adapters.pieces)
        if self._made or adapters.fits:
            bound.staging_bytes = STAGING_BYTES  # what is packed or added at a time takes no more
        return bound

    def _adapters_of(self, module: torch.nn.Module) -> Adapters:
        """The LoRAs, fitted to the plain module."""
        from wanflow.models.adapters.of_model import Adapters, adapters_in

        if not self.loras:
            return Adapters((), ())
        self._adapters["of"] = adapters_in(module, self.loras, self.spec.name)
        return self._adapters["of"]

    @property
    def adapters(self) -> Adapters:
        """The LoRAs, fitted to the module."""
        from wanflow.models.adapters.of_model import Adapters

        if self.loras:
            self.model  # noqa: B018 - fits them
        return self._adapters.get("of", Adapters((), ()))

    def _forms(self, module: torch.nn.Module) -> Mapping[str, Form]:
        """The weights that are packed on the device: in their file, or when they are read."""
        from wanflow.models.packing.made import form_of
        from wanflow.models.segments.cut import may_pack, packable

        there = self.checkpoint.forms if self.checkpoint is not None else {}
        taken = {name for name, _ in module.named_parameters()}
        kept = {n: form for n, form in there.items() if n in taken and may_pack(module, n)}
        if not self.packing:
            return kept
        names = [name for name in packable(module) if name not in there]
        self._made.update(dict.fromkeys(names, self.packing))
        shapes = {name: tuple(module.get_parameter(name).shape) for name in names}
        return kept | {name: form_of(self.packing, shape) for name, shape in shapes.items()}

    def _read_bytes(self, module: torch.nn.Module) -> dict[str, int]:
        """What is read for the pieces of weights that are packed when they are read."""
        from wanflow.models.packing.linear import pieces_of
        from wanflow.models.segments.cut import DTYPES

        sizes = {}
        for name in self._made:
            numbers, *others = pieces_of(module, name)
            entry = self.checkpoint.entries.get(name) if self.checkpoint is not None else None
            dtype = DTYPES[self.precision] if entry is None else entry.dtype
            sizes[numbers] = module.get_parameter(numbers).numel() * dtype.itemsize
            sizes |= dict.fromkeys(others, 0)
        return sizes

    @functools.cached_property
    def source(self) -> WeightSource | None:
        """What its tensors are read from, as they are to lie on the device."""
        checkpoint = self.checkpoint
        if checkpoint is None:
            return None
        from wanflow.models.adapters.source import AdaptedSource
        from wanflow.models.weights.packing_source import PackingSource

        adapters = self.adapters
        source: WeightSource = checkpoint
        if self.packing:
            self.model  # noqa: B018 - finds what is packed
            source = PackingSource(checkpoint, self._made)
        if adapters.fits:
            source = AdaptedSource(source, adapters.pieces, adapters.read)
        return source

    @property
    def identity(self) -> dict[str, object]:
        """Say which module it is; what is left out is filled in by upstream's version."""
        forms = self.checkpoint.forms if self.checkpoint is not None else {}
        return {
            "part": self.spec.part,
            "precision": self.precision,
            "config": {name: str(value) for name, value in self.config.items()},
            "packing": self.packing,
            "forms": {name: repr(form) for name, form in sorted(forms.items())},
            "loras": [[lora.file.layout, lora.weight, lora.partial] for lora in self.loras],
        }

    @property
    def read_identity(self) -> list[object]:
        """What of the weights decides a plan, but for `identity`: what is read in other bytes."""
        if self.checkpoint is None:
            return []
        return [self.model.staging_bytes, sorted(self.model.read_bytes.items())]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the weights: what of them is not used, or not here."""
        notes = self.adapters.notes if self.loras else ()
        told = tuple(f"{self.spec.name}: {note}" for note in notes)
        if self.checkpoint is None or self.folder is None:
            return told
        expert = ""
        if self.spec.part == "transformer":
            expert = said_of_expert(self.folder, self.spec.expert)
        own = (expert, *self.checkpoint.notes, left_out(self.model.module, self.checkpoint))
        return tuple(f"{self.spec.name}: {note}" for note in own if note) + told


def bind_model(
    spec: ModelSpec,
    precision: str,
    folder: Path | None,
    graph_file: Path,
    ops: Collection[str] = ("decode_frames",),
    *,
    packing: str = "",
    own_config: bool = False,
    over: Sequence[Path] = (),
    loras: Sequence[Lora] = (),
) -> LocatedModel:
    """Find a model's config: it comes from the graph, else from where its weights are.

    With *own_config* it comes from the weights, if these have one, before the graph. *ops* are
    those of the stages that run it: what none of them uses need not be on disk. The tensors of
    *over* come beside those of *folder*. With *packing* its large weights are packed when read. It
    is run with *loras*, one after another.
    """
    if spec.fields is None and folder is None:
        raise missing(spec, graph_file)
    checkpoints = [open_part(spec.part, place) for place in (folder, *over) if place is not None]
    checkpoint = laid_over(checkpoints[0], checkpoints[1:]) if checkpoints else None
    config, where = _config(spec, checkpoints, own=own_config)
    config = allowed(spec.part, config, where)
    if checkpoint is not None:
        check_kind(spec, config, checkpoint)
    located = LocatedModel(
        spec, precision, config, folder, checkpoint, where, frozenset(ops), packing,
        tuple(loras),
    )  # fmt: skip
    if checkpoint is not None:
        located.model  # noqa: B018 - weights that are here are checked before anything is planned
    return located


def _config(
    spec: ModelSpec, checkpoints: Sequence[Checkpoint], *, own: bool
) -> tuple[Mapping[str, object], str]:
    """A model's configuration, and where it comes from.

    Of places that are laid over each other the one with VACE's blocks tells most, if it tells any.
    """
    sources = [c for c in checkpoints if is_told(spec.part, c.folder)]
    sources.sort(key=lambda checkpoint: not has_vace(checkpoint.entries))
    if spec.fields is None or (own and sources):
        checkpoint = (sources or checkpoints)[0]
        return config_of(spec.part, checkpoint.folder, checkpoint.weights)
    return spec.fields, f"model {spec.name!r}"


def left_out(module: torch.nn.Module, checkpoint: Checkpoint) -> str:
    """Say in a line which tensors nothing takes; nothing where there are none."""
    names = unused({name for name, _ in module.named_parameters()}, checkpoint)
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    are = "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"
    return f"{are} left out, which nothing takes: {', '.join(names[:_NAMED])}{more}"


def unused(taken: Collection[str], checkpoint: Checkpoint) -> list[str]:
    """The tensors, as the file names them, that no parameter of *taken* is."""
    taken = set(taken)
    packed = {n for n in checkpoint.forms if not taken.isdisjoint(checkpoint.pieces_of(n))}
    weights = checkpoint.weights
    return sorted({weights[n].stored_as or n for n in weights.keys() - taken - packed})


def _sizes(module: torch.nn.Module, names: Collection[str], precision: str) -> dict[str, int]:
    """The bytes that parameters have once they are read."""
    from wanflow.models.segments.cut import dtype_of

    return {
        name: module.get_parameter(name).numel() * dtype_of(module, name, precision).itemsize
        for name in names
    }


def _check(
    bound: BoundModule, part: str, checkpoint: Checkpoint, elsewhere: Collection[str]
) -> None:
    """Every tensor that will be read is there, in its shape and of floats, before anything runs."""
    from wanflow.models.packing.linear import packed_in, pieces_of
    from wanflow.models.wan import umt5

    packed = packed_in(bound.module)
    pieces = {piece for name in packed for piece in pieces_of(bound.module, name)}
    pieces.update(elsewhere)
    wanted = {
        spec.name: spec.shape
        for segment in bound.segmentation.segments
        for spec in bound.segments[segment].tensors
        if spec.name not in pieces
    }
    wanted |= {n: form.shape for n, form in packed.items() if n not in checkpoint.forms}
    if part == "text_encoder":
        wanted[umt5.EMBEDDING] = tuple(bound.module.get_parameter(umt5.EMBEDDING).shape)
    for name, shape in wanted.items():
        checkpoint.check_weight(name, shape)


def _staging_bytes(
    bound: BoundModule, part: str, checkpoint: Checkpoint | None, elsewhere: Collection[str]
) -> int:
    """A chunk's room if any tensor changes its dtype on the way in; assumed without weights."""
    from wanflow.models.packing.linear import packed_in, pieces_of
    from wanflow.models.wan import umt5
    from wanflow.models.weights.checkpoint import STAGING_BYTES

    if checkpoint is None:
        return STAGING_BYTES
    wanted: dict[str, torch.dtype] = {
        spec.name: spec.dtype for s in bound.segments.values() for spec in s.tensors
    }
    if part == "text_encoder":
        wanted[umt5.EMBEDDING] = bound.rows(umt5.EMBEDDING).dtype
    packed = {leaf for name in packed_in(bound.module) for leaf in pieces_of(bound.module, name)}
    packed.update(elsewhere)
    made = packed - checkpoint.entries.keys()
    differs = any(
        checkpoint.dtype_of(name) != dtype for name, dtype in wanted.items() if name not in made
    )
    return STAGING_BYTES if differs else 0
