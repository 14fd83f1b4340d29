"""From a request to programs: the graph bound, its models built, its stages made ready."""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from wanflow import __version__
from wanflow.cards import no_bf16
from wanflow.errors import InputError, WeightsError
from wanflow.files.pictures import Picture
from wanflow.files.videos import Video
from wanflow.graph import BoundGraph, BoundStage, PortRef, Size, VideoRules, bind, load
from wanflow.graph.check import CheckedGraph
from wanflow.graph.spec import ModelSpec
from wanflow.graph.values import ValueType
from wanflow.models.bound import LocatedModel, bind_model
from wanflow.models.weights.locate import laid_over, locate, missing, parse_weights
from wanflow.models.weights.tokenizer import PromptTokenizer, find_tokenizer, load_tokenizer
from wanflow.scheduler.knobs import ProgramOutline, StageSettings, settings_of
from wanflow.scheduler.profile.cache_key import conditions
from wanflow.scheduler.profile.kind_cache import folder
from wanflow.scheduler.program import Program, outline_of
from wanflow.scheduler.ranks import Exchange, Rank
from wanflow.session.preparing.input_files import absolute, files_of, open_files, paths_of
from wanflow.session.preparing.kept_profile import KeptProfile
from wanflow.session.preparing.kernels import stages_attend
from wanflow.session.preparing.loras import check_taken, graph_loras, loras_of, parse_loras
from wanflow.session.preparing.masks import check_masks
from wanflow.session.preparing.place import Place
from wanflow.session.preparing.previews import Until, until_of, with_previews
from wanflow.session.preparing.prompt_cache import prompts_of
from wanflow.session.preparing.schedule import scheduled
from wanflow.session.preparing.shapes import in_shape
from wanflow.session.preparing.stage_key import stage_identity
from wanflow.session.preparing.step_caches import with_caches
from wanflow.session.request import Request, packings, pairs, precisions
from wanflow.stages import LatentSpace, StageSetup, Surroundings, make_program
from wanflow.stages.base import KeptTexts
from wanflow.stages.preview_map import Previewing

# Pins that every stage has, beside the knobs of its op, where the device has what they need.
_WEIGHTS = {"weights": ("resident", "stream")}
_SPILL = {"spill": ("none", "all")}

# What shapes latents, as diffusers' constructors fill it in.
_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "transformer": {"patch_size": [1, 2, 2], "out_channels": 16},
    "vae": {"z_dim": 16, "scale_factor_spatial": 8, "scale_factor_temporal": 4},
}


@attrs.frozen
class Prepared:
    """A graph ready to be planned, and to be run if every model has weights."""

    graph: BoundGraph
    models: Mapping[str, LocatedModel]
    place: Place
    request: Request
    recipe: Mapping[str, object] | None  # None where the video is to hold none
    prompts: Mapping[str, KeptTexts] = attrs.field(factory=dict)  # of stages that encode them
    files: Mapping[str, ValueType] = attrs.field(factory=dict)  # inputs that are files
    opened: Mapping[str, Picture | Video] = attrs.field(factory=dict)  # these, by path
    texts: Mapping[str, str] = attrs.field(factory=dict)  # prompts instead of the graph's own
    repeated: bool = False  # run again and again, as the rows of a batch are
    rank: Rank | None = None  # where several share it
    previewing: Previewing = attrs.field(factory=Previewing)
    until: Until | None = None  # where it stops
    preview_note: str = ""  # why there are no previews

    def programs(self, out: Path | None) -> tuple[Program, ...]:
        """Give the programs of all stages; with *out* None to plan them only, on fake `cpu`."""
        return self._to_plan if out is None else self._made(out)

    @functools.cached_property
    def _to_plan(self) -> tuple[Program, ...]:
        return self._made(None)

    def _made(self, out: Path | None) -> tuple[Program, ...]:
        return tuple(make_program(self._setup(stage, out)) for stage in self.graph.stages)

    def identities(self) -> dict[str, object]:
        """What decides the costs of each stage's calls, besides knobs and inputs."""
        space = self._latent_space()
        return {
            stage.name: stage_identity(
                stage,
                space,
                self._latent_shape(stage, space),
                self.models[stage.model] if stage.model else None,
                wants_negative=self.wants_negative(stage),
            )
            | ({} if self.rank is None else {"rank": self.rank.key})
            for stage in self.graph.stages
        }

    @functools.cached_property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the weights before they are run."""
        notes = [note for located in self.models.values() for note in located.notes]
        for stage in self.graph.stages:
            located = self.models[stage.model] if stage.model else None
            if stage.op.name == "encode_text" and located is not None and located.folder:
                try:
                    find_tokenizer(located.folder)
                except WeightsError as error:
                    notes.append(
                        f"{located.spec.name}: a run needs a tokenizer: {error.message}; "
                        f"{error.hint}"
                    )
        return (*notes, self.preview_note) if self.preview_note else tuple(notes)

    @functools.cached_property
    def profile(self) -> KeptProfile:
        """What was profiled before of this graph, with these lengths of prompts.

        Its footprints have names of models and know which values live to the end, costs don't.
        """
        elsewhere = self.request.machine is not None
        device = self.place.machine.device if elsewhere else self.place.kind
        names = [[stage.name, stage.model] for stage in self.graph.stages]
        outputs = sorted(f"{ref.stage}.{ref.port}" for ref in self.graph.outputs.values())
        about = [self.identities(), names, outputs, conditions(device), self.place.expandable]
        read = {name: located.read_identity for name, located in self.models.items()}
        about += [read, self.decided_texts()]
        return KeptProfile.in_folder(folder(), about)

    def decided_texts(self) -> list[object]:
        """What of the prompts decides a plan; nothing where there is no tokenizer."""
        encoding = [
            stage
            for stage in self.graph.stages
            if stage.op.name == "encode_text" and self.tokenizer(stage, to_run=False) is not None
        ]
        if not encoding:
            return []
        from wanflow.stages.encode_text import EncodeText

        return [EncodeText(self._setup(stage, None)).decided() for stage in encoding]

    @functools.cached_property
    def outlines(self) -> tuple[ProgramOutline, ...]:
        """What planning asks of each program but its calls."""
        outlines = self.profile.outlines()
        if outlines is None:
            outlines = tuple(map(outline_of, self.programs(None)))
            self.profile.add_outlines(outlines)
        steps = {s.name: len(s.steps) for s in self.graph.stages if s.op.repeats == "steps"}
        return tuple(attrs.evolve(o, steps=steps.get(o.stage, o.steps)) for o in outlines)

    def knob_settings(self) -> dict[str, StageSettings]:
        """The knob settings of each stage that pins and `--exact` leave."""
        knobs = {outline.stage: outline.knobs for outline in self.outlines}
        return settings_of(knobs, self.knob_pins(), exact=self.request.exact)

    @property
    def rounds_one_way(self) -> bool:
        """Whether no knob has values left that round otherwise than another of it."""
        marks = {
            (outline.stage, knob.name): knob.choices
            for outline in self.outlines
            for knob in outline.knobs
        }
        ways: dict[tuple[str, str], set[str]] = {}
        for settings in self.knob_settings().values():
            for setting in settings.all:
                for stage, knobs in setting.items():
                    for name, value in knobs.items():
                        plain = marks[stage, name][value] == "bitwise"
                        ways.setdefault((stage, name), set()).add("" if plain else value)
        return all(len(values) == 1 for values in ways.values())

    def knobs(self) -> list[dict[str, dict[str, str]]]:
        """Every knob setting of the whole graph, the plain one first."""
        combinations = itertools.product(*(stage.all for stage in self.knob_settings().values()))
        return [{s: dict(k) for part in parts for s, k in part.items()} for parts in combinations]

    def keeping(self, knobs: Mapping[str, Mapping[str, str]]) -> Prepared:
        """The same, with the values of *knobs* pinned where a knob has values that round."""
        pinned, pins = self.knob_pins(), list(self.request.pins)
        for program in self.outlines:
            for knob in program.knobs:
                value = knobs.get(program.stage, {}).get(knob.name)
                rounds = "rounding" in knob.choices.values() and not self.request.exact
                if rounds and value in knob.choices and (program.stage, knob.name) not in pinned:
                    pins.append(f"{program.stage}.{knob.name}={value}")
        return attrs.evolve(self, request=attrs.evolve(self.request, pins=tuple(pins)))

    def knob_pins(self) -> dict[tuple[str, str], str]:
        """The pins of knobs, checked against what each stage has."""
        placing = (*_WEIGHTS, *_SPILL)
        return {key: value for key, value in self._pins.items() if key[1] not in placing}

    def weight_pins(self) -> dict[str, str]:
        """The pins `STAGE.weights=resident|stream`."""
        return {stage: value for (stage, knob), value in self._pins.items() if knob == "weights"}

    def spill_pins(self) -> dict[str, str]:
        """The pins `STAGE.spill=none|all`."""
        return {stage: value for (stage, knob), value in self._pins.items() if knob == "spill"}

    @functools.cached_property
    def _pins(self) -> dict[tuple[str, str], str]:
        pins = {}
        programs = {outline.stage: outline for outline in self.outlines}
        spills = self.place.machine.device != "cpu"
        for key, value in pairs(self.request.pins, "--pin", "STAGE.KNOB=VALUE").items():
            stage, _, knob = key.partition(".")
            if stage not in programs:
                if stage in load(self.request.graph).spec.stages:
                    continue  # it has nothing to do here, with these files or these steps
                raise InputError(
                    f"--pin {key}: the graph has no stage {stage!r}",
                    hint=f"its stages are {', '.join(programs)}",
                    code="unknown-stage",
                )
            pins[stage, knob] = _checked_pin(programs[stage], key, value, spills=spills)
            if self.request.exact:
                _check_exact(programs[stage], key, value)
        return pins

    def setup_of(self, stage: str) -> StageSetup:
        """What a stage's program is made from, to plan it."""
        return self._setup(self.graph.stage(stage), None)

    def _setup(self, stage: BoundStage, out: Path | None) -> StageSetup:
        model = self.models[stage.model].model if stage.model is not None else None
        return StageSetup(stage, model, self._around(stage, out))

    def _around(self, stage: BoundStage, out: Path | None) -> Surroundings:
        import torch

        space = self._latent_space()
        return Surroundings(
            device=self.place.device if out is not None else torch.device("cpu"),
            latent_space=space,
            latent_shape=self._latent_shape(stage, space),
            out=out,
            recipe=self.recipe,
            tokenize=self.tokenizer(stage, to_run=out is not None),
            wants_negative=self.wants_negative(stage),
            texts=self.prompts.get(stage.name),
            more_prompts=self.texts if stage.op.name == "encode_text" else {},
            files=self.opened,
            rank=self.rank,
            exchange=self._exchange(to_run=out is not None),
            previewing=self.previewing,
        )

    def _exchange(self, *, to_run: bool) -> Exchange | None:
        """What carries tensors between ranks; while planning they are counted."""
        if self.rank is None or to_run:
            return None if self.rank is None else self.rank.exchange
        from wanflow.scheduler.profile.counted_exchange import CountedExchange

        return CountedExchange(self.rank.index)

    def _latent_space(self) -> LatentSpace:
        """Channels of what the transformer makes, factors of the VAE, Wan 2.1's without one."""
        shapes = shapes_of(self.models)
        dit, vae = shapes.get("transformer"), shapes.get("vae")
        channels = dit["out_channels"] if dit is not None else (vae or _SHAPES["vae"])["z_dim"]
        return LatentSpace(
            channels=channels,
            spatial=(vae or _SHAPES["vae"])["scale_factor_spatial"],
            temporal=(vae or _SHAPES["vae"])["scale_factor_temporal"],
        )

    def _latent_shape(self, stage: BoundStage, space: LatentSpace) -> tuple[int, ...]:
        """The shape of the latents a stage works on, from the noise stage above it."""
        above = stage
        while (frames := above.inputs.get("frames")) is not None and isinstance(frames, PortRef):
            above = self.graph.stage(frames.stage)
        noise = self.graph.noise_of(above)
        if noise is None:
            return (1, space.channels, 1, 1, 1)
        size, count = noise.inputs["size"], noise.inputs["frames"]
        if not isinstance(size, Size) or not isinstance(count, int):
            msg = f"stage {noise.name} has size {size!r}, frames {count!r}"
            raise TypeError(msg)
        return space.shape(size.width, size.height, count)

    def check_tokenizers(self) -> None:
        """WeightsError where a stage encodes text and has no tokenizer that can be read."""
        for stage in self.graph.stages:
            self.tokenizer(stage, to_run=True)

    def tokenizer(self, stage: BoundStage, *, to_run: bool) -> PromptTokenizer | None:
        """Read the tokenizer of a stage that encodes text; a plan does without."""
        if stage.op.name != "encode_text" or stage.model is None:
            return None
        located = self.models[stage.model]
        if not to_run and located.folder is None:
            return None
        if located.folder is None:
            raise missing(located.spec, graph_file(self.graph))
        from wanflow.models.weights.identity import stat_key

        try:
            path = find_tokenizer(located.folder)
            return _tokenizer(path, stat_key(path.stat()))
        except WeightsError:
            if to_run:
                raise
            return None

    def wants_negative(self, stage: BoundStage) -> bool:
        """Whether any stage that reads this one's text guides by its negative prompt."""
        text = PortRef(stage.name, "text")
        readers = [s for s in self.graph.stages if s.inputs.get("text") == text]
        return any(float(str(s.params.get("guidance", 0))) > 1 for s in readers)


@functools.lru_cache(maxsize=4)
def _tokenizer(path: Path, _as_it_was: tuple[int, ...]) -> PromptTokenizer:
    """Read once while it is as it was: the plan asks often, and then the run."""
    return load_tokenizer(path)


def _checked_pin(program: ProgramOutline, key: str, value: str, *, spills: bool) -> str:
    knob_name = key.partition(".")[2]
    allowed = {k.name: tuple(k.choices) for k in program.knobs}
    if program.has_model:
        allowed |= _WEIGHTS
    if spills:
        allowed |= _SPILL
    if knob_name not in allowed:
        names = ", ".join(allowed) or "none"
        raise InputError(
            f"--pin {key}: stage {program.stage!r} has no knob {knob_name!r}",
            hint=f"its knobs: {names}",
            code="unknown-knob",
        )
    if value not in allowed[knob_name]:
        raise InputError(
            f"--pin {key}={value}: not a value of that knob",
            hint=f"allowed: {', '.join(allowed[knob_name])}",
            code="bad-pin",
        )
    return value


def _check_exact(program: ProgramOutline, key: str, value: str) -> None:
    marks = {f"{program.stage}.{k.name}": k.choices for k in program.knobs}
    if marks.get(key, {}).get(value) == "rounding":
        raise InputError(
            f"--pin {key}={value}: rounds differently, which --exact rules out",
            hint="leave one of them out",
            code="pin-not-exact",
        )


def graph_file(graph: BoundGraph | CheckedGraph) -> Path:
    """Where the graph file lies, for paths that are relative to it."""
    return graph.source.path or Path("graph.yaml")


def prepare(
    request: Request,
    place: Place,
    *,
    to_run: bool,
    made: Mapping[str, LocatedModel] | None = None,
) -> Prepared:
    """Bind the graph and build its models; with *to_run* every model must have weights.

    *made* are models of the same graph and options that need not be built again.
    """
    checked = load(request.graph)
    specs = checked.spec.models
    options = parse_weights(request.weights, tuple(specs))
    chosen = precisions(request.precision, {name: s.precision for name, s in specs.items()})
    packed = packings(request.precision, {name: s.part for name, s in specs.items()})
    file = graph_file(checked)
    params = pairs(request.settings, "--set", "STAGE.PARAM=VALUE")
    request = attrs.evolve(request, inputs=absolute(checked, request.inputs))
    loras = parse_loras(request.loras, {name: s.part for name, s in specs.items()})
    request = attrs.evolve(request, loras=tuple(option.text for option in loras))
    models, needed = {}, _needed(checked, request, params)
    transformers = [name for name, spec in needed.items() if spec.part == "transformer"]
    loras = (*graph_loras(needed.values(), file), *loras)
    _check_bf16(place, {name: chosen[name] for name in needed}, request)
    for name, spec in needed.items():
        if made is not None and name in made:
            models[name] = made[name]
            continue
        folder = locate(spec, options, file)
        if folder is None and to_run:
            raise missing(spec, file)
        ops = {stage.op.name for stage in checked.spec.stages.values() if stage.model == name}
        models[name] = bind_model(
            spec, chosen[name], folder, file, ops, own_config=request.own_configs,
            over=laid_over(spec, options), packing=packed.get(name, ""),
            loras=loras_of(
                spec, loras, partial=request.lora_partial, alone=len(transformers) == 1
            ),
        )  # fmt: skip
    if loras:
        check_taken(loras, models)
    rules = _rules(models)
    opened = open_files(checked, request.inputs, to_run=to_run)
    inputs = in_shape(
        checked, request.inputs, rules or checked.rules, opened, any_shape=request.any_shape
    )
    bound = scheduled(bind(checked, inputs, params, rules, allow_missing_text=not to_run))
    bound = with_caches(bound, models)
    until = until_of(request.until, bound)
    previews = with_previews(bound, models, request, until)
    bound = previews.graph
    files = files_of(checked)
    check_masks(bound, opened)
    _check_lengths(bound, opened, (rules or checked.rules or VideoRules()).frame_multiple)
    if to_run:
        with stages_attend(bound, models, place.device):
            pass  # what a stage asks for is there; planning goes on with native
        if any(stage.op.name == "write_video" for stage in bound.stages):
            from wanflow.stages.video_file import load_encoder

            load_encoder()
    prompts = prompts_of(bound, models, place, request)
    stated = {name: f"{kind} {packed.get(name, '')}".strip() for name, kind in chosen.items()}
    recipe = _recipe(bound, stated, files, models) if request.metadata else None
    prepared = Prepared(
        bound, models, place, request, recipe, prompts, files, opened,
        previewing=previews.previewing, until=until, preview_note=previews.note,
    )  # fmt: skip
    if to_run:
        prepared.check_tokenizers()
    return prepared


def _needed(
    checked: CheckedGraph, request: Request, params: Mapping[str, str]
) -> Mapping[str, ModelSpec]:
    """The models that a stage with something to do runs; no size is out of their rules here."""
    anything = VideoRules(size_multiple=1, frame_multiple=1)
    return scheduled(
        bind(checked, request.inputs, params, anything, allow_missing_text=True)
    ).models


def _check_bf16(place: Place, chosen: Mapping[str, str], request: Request) -> None:
    """InputError for models whose precision the card of a place can't compute in."""
    problem = None
    if place.card is not None:
        problem = no_bf16(place.card, chosen, request.precision)
    if problem is not None and request.any_shape:  # Wan's own command line has one for all
        problem = attrs.evolve(problem, hint="--precision fp16")
    if problem is not None:
        raise problem.error


def _check_lengths(graph: BoundGraph, files: Mapping[str, Picture | Video], temporal: int) -> None:
    """InputError for a video that has not the frames that a stage asks of it."""
    for stage in graph.stages:
        opened = [files.get(str(stage.inputs.get(port))) for port in ("video", "mask")]
        videos = [video for video in opened if isinstance(video, Video)]
        frames, fps = stage.inputs.get("frames"), stage.inputs.get("fps")
        if videos and isinstance(frames, int):
            from wanflow.stages.clip import times_of

            times_of(videos, frames, float(str(fps)) if fps is not None else None, temporal)


def shapes_of(models: Mapping[str, LocatedModel]) -> dict[str, dict[str, Any]]:
    """The fields of transformer and VAE that shape latents, with those that upstream fills in."""
    shapes: dict[str, dict[str, Any]] = {}
    for located in models.values():
        part, shape = located.spec.part, _SHAPES.get(located.spec.part)
        if shape is not None:
            shapes[part] = {name: located.config.get(name, value) for name, value in shape.items()}
    return shapes


def _rules(models: Mapping[str, LocatedModel]) -> VideoRules | None:
    by_part = shapes_of(models)
    if "transformer" not in by_part or "vae" not in by_part:
        return None
    return VideoRules.of(by_part["transformer"], by_part["vae"])


def versions() -> dict[str, str]:
    """Versions of what decides the picture."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    """Read once: the metadata of a package are text that takes milliseconds to parse."""
    names = ("torch", "diffusers", "transformers", "av")
    return {"wanflow": __version__, **{n: importlib.metadata.version(n) for n in names}}


def _loras_of(models: Mapping[str, LocatedModel]) -> dict[str, object]:
    words = {n: [lora.words for lora in m.adapters.loras] for n, m in models.items() if m.loras}
    return {"loras": words} if words else {}


def _recipe(
    graph: BoundGraph,
    chosen: Mapping[str, str],
    files: Mapping[str, ValueType],
    models: Mapping[str, LocatedModel],
) -> dict[str, object]:
    """What the video was made from, as its metadata keep it: of files their names alone."""
    inputs = graph.plain_inputs()
    return {
        "wanflow": __version__,
        "graph": graph.name,
        "inputs": inputs
        | {
            name: ",".join(Path(path).name for path in paths_of(kind, inputs[name]))
            for name, kind in files.items()
        },
        "precision": dict(chosen),
        **_loras_of(models),
        "versions": versions(),
    }
