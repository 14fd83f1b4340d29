"""A graph with its models, a place and its inputs: the programs, and all that planning asks."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from pathlib import Path

import attrs

from wanflow.errors import WeightsError
from wanflow.files.pictures import Picture
from wanflow.files.videos import Video
from wanflow.graph import BoundGraph, BoundStage, PortRef, load
from wanflow.graph.check import CheckedGraph
from wanflow.graph.values import ValueType
from wanflow.models.bound import LocatedModel
from wanflow.models.weights.locate import missing
from wanflow.models.weights.tokenizer import PromptTokenizer, find_tokenizer, load_tokenizer
from wanflow.scheduler.knobs import ProgramOutline, StageSettings, settings_of
from wanflow.scheduler.profile.cache_key import conditions
from wanflow.scheduler.profile.kind_cache import folder
from wanflow.scheduler.program import Program, outline_of
from wanflow.scheduler.ranks import Exchange, Rank
from wanflow.session.preparing.kept_profile import KeptProfile
from wanflow.session.preparing.latents import latent_shape, latent_space
from wanflow.session.preparing.pins import PLACING, pins_keeping, read_pins
from wanflow.session.preparing.place import Place
from wanflow.session.preparing.previews import Until
from wanflow.session.preparing.stage_key import stage_identity
from wanflow.session.request import Request
from wanflow.stages import StageSetup, Surroundings, make_program
from wanflow.stages.base import KeptTexts
from wanflow.stages.preview_map import Previewing


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
        space = latent_space(self.models)
        return {
            stage.name: stage_identity(
                stage,
                space,
                latent_shape(self.graph, stage, space),
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
        pins = pins_keeping(self.request, self.outlines, self.knob_pins(), knobs)
        return attrs.evolve(self, request=attrs.evolve(self.request, pins=pins))

    def knob_pins(self) -> dict[tuple[str, str], str]:
        """The pins of knobs, checked against what each stage has."""
        return {key: value for key, value in self._pins.items() if key[1] not in PLACING}

    def weight_pins(self) -> dict[str, str]:
        """The pins `STAGE.weights=resident|stream`."""
        return {stage: value for (stage, knob), value in self._pins.items() if knob == "weights"}

    def spill_pins(self) -> dict[str, str]:
        """The pins `STAGE.spill=none|all`."""
        return {stage: value for (stage, knob), value in self._pins.items() if knob == "spill"}

    @functools.cached_property
    def _pins(self) -> dict[tuple[str, str], str]:
        if not self.request.pins:
            return {}
        stages = load(self.request.graph).spec.stages
        spills = self.place.machine.device != "cpu"
        return read_pins(self.request, self.outlines, stages, spills=spills)

    def setup_of(self, stage: str) -> StageSetup:
        """What a stage's program is made from, to plan it."""
        return self._setup(self.graph.stage(stage), None)

    def _setup(self, stage: BoundStage, out: Path | None) -> StageSetup:
        model = self.models[stage.model].model if stage.model is not None else None
        return StageSetup(stage, model, self._around(stage, out))

    def _around(self, stage: BoundStage, out: Path | None) -> Surroundings:
        import torch

        space = latent_space(self.models)
        return Surroundings(
            device=self.place.device if out is not None else torch.device("cpu"),
            latent_space=space,
            latent_shape=latent_shape(self.graph, stage, space),
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


def graph_file(graph: BoundGraph | CheckedGraph) -> Path:
    """Where the graph file lies, for paths that are relative to it."""
    return graph.source.path or Path("graph.yaml")
