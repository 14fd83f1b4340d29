"""From a request to what can be planned and run: the graph bound, its models built."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from wanflow.cards import no_bf16
from wanflow.files.pictures import Picture
from wanflow.files.videos import Video
from wanflow.graph import BoundGraph, VideoRules, bind, load
from wanflow.graph.check import CheckedGraph
from wanflow.graph.spec import ModelSpec
from wanflow.models.bound import LocatedModel, bind_model
from wanflow.models.weights.locate import WeightsOption, laid_over, locate, missing, parse_weights
from wanflow.session.preparing.input_files import absolute, files_of, open_files
from wanflow.session.preparing.kernels import stages_attend
from wanflow.session.preparing.latents import rules_of
from wanflow.session.preparing.loras import (
    LoraOption,
    check_taken,
    graph_loras,
    loras_of,
    parse_loras,
)
from wanflow.session.preparing.masks import check_masks
from wanflow.session.preparing.place import Place
from wanflow.session.preparing.prepared import Prepared, graph_file
from wanflow.session.preparing.previews import until_of, with_previews
from wanflow.session.preparing.prompt_cache import prompts_of
from wanflow.session.preparing.recipe import recipe_of
from wanflow.session.preparing.schedule import scheduled
from wanflow.session.preparing.shapes import in_shape
from wanflow.session.preparing.step_caches import with_caches
from wanflow.session.request import Request, packings, pairs, precisions


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
    options = _ModelOptions.of(request, checked)
    params = pairs(request.settings, "--set", "STAGE.PARAM=VALUE")
    request = attrs.evolve(
        request,
        inputs=absolute(checked, request.inputs),
        loras=tuple(option.text for option in options.loras),
    )
    needed = _needed(checked, request, params)
    _check_bf16(place, {name: options.precision[name] for name in needed}, request)
    models = _models(checked, request, needed, options, made or {}, to_run=to_run)
    rules = rules_of(models)
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
        _check_libraries(bound, models, place)
    prompts = prompts_of(bound, models, place, request)
    recipe = recipe_of(bound, options.stated(), files, models) if request.metadata else None
    prepared = Prepared(
        bound, models, place, request, recipe, prompts, files, opened,
        previewing=previews.previewing, until=until, preview_note=previews.note,
    )  # fmt: skip
    if to_run:
        prepared.check_tokenizers()
    return prepared


@attrs.frozen
class _ModelOptions:
    """What a request says of models: whose weights, by model their precision and packing, LoRAs."""

    weights: tuple[WeightsOption, ...]
    precision: Mapping[str, str]
    packing: Mapping[str, str]
    loras: tuple[LoraOption, ...]

    @classmethod
    def of(cls, request: Request, checked: CheckedGraph) -> _ModelOptions:
        """Read them over what the graph has."""
        specs = checked.spec.models
        parts = {name: spec.part for name, spec in specs.items()}
        return cls(
            parse_weights(request.weights, tuple(specs)),
            precisions(request.precision, {name: s.precision for name, s in specs.items()}),
            packings(request.precision, parts),
            parse_loras(request.loras, parts),
        )

    def stated(self) -> dict[str, str]:
        """Precision and packing in words, as metadata have them."""
        return {
            n: f"{kind} {self.packing.get(n, '')}".strip() for n, kind in self.precision.items()
        }


def _models(
    checked: CheckedGraph,
    request: Request,
    needed: Mapping[str, ModelSpec],
    options: _ModelOptions,
    made: Mapping[str, LocatedModel],
    *,
    to_run: bool,
) -> dict[str, LocatedModel]:
    """Find the weights of the models that are *needed*, and build what is not in *made*."""
    file = graph_file(checked)
    loras = (*graph_loras(needed.values(), file), *options.loras)
    alone = [spec.part for spec in needed.values()].count("transformer") == 1
    models = {}
    for name, spec in needed.items():
        if name in made:
            models[name] = made[name]
            continue
        folder = locate(spec, options.weights, file)
        if folder is None and to_run:
            raise missing(spec, file)
        ops = {stage.op.name for stage in checked.spec.stages.values() if stage.model == name}
        models[name] = bind_model(
            spec, options.precision[name], folder, file, ops, own_config=request.own_configs,
            over=laid_over(spec, options.weights), packing=options.packing.get(name, ""),
            loras=loras_of(spec, loras, partial=request.lora_partial, alone=alone),
        )  # fmt: skip
    if loras:
        check_taken(loras, models)
    return models


def _check_libraries(graph: BoundGraph, models: Mapping[str, LocatedModel], place: Place) -> None:
    """InputError where a kernel or an encoder that a stage asks for is not there."""
    with stages_attend(graph, models, place.device):
        pass  # planning goes on with native
    if any(stage.op.name == "write_video" for stage in graph.stages):
        from wanflow.stages.video_file import load_encoder

        load_encoder()


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
