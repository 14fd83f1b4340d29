"""A graph file as read: one frozen record a section, with its place in the file."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from wanflow.graph.inputs import InputSpec
from wanflow.graph.ops import OpSpec
from wanflow.graph.source import Mark
from wanflow.graph.values import InputRef, PortRef, Value


@attrs.frozen
class Wire:
    """What feeds a port or a param: a literal, an input of the graph, or a stage's output."""

    value: Value | InputRef | PortRef
    mark: Mark


@attrs.frozen(kw_only=True)
class ModelSpec:
    """A model of the graph.

    `fields` is the whole configuration, named (`config`) or written out; None when the weights
    folder's own `config.json` must say it. `expert` is which of a folder's two transformers it is,
    "" where there is one. `loras` are files with their weights, one after another.
    """

    name: str
    part: str
    config: str = ""
    fields: Mapping[str, object] | None = None
    path: str = ""
    precision: str = "fp32"
    expert: str = ""
    loras: tuple[tuple[str, float], ...] = ()
    mark: Mark


@attrs.frozen(kw_only=True)
class StageSpec:
    """A stage: its op, and what feeds its ports and params."""

    name: str
    op: OpSpec
    model: str | None = None
    inputs: Mapping[str, Wire]
    params: Mapping[str, Wire]
    mark: Mark
    model_mark: Mark
    in_mark: Mark


@attrs.frozen
class OutputSpec:
    """A result of the graph: a stage's output by the name the user sees."""

    ref: PortRef
    mark: Mark


@attrs.frozen(kw_only=True)
class GraphSpec:
    """A whole graph file; `inputs` are the declared ones and the standard ones it refers to."""

    name: str
    about: str
    inputs: Mapping[str, InputSpec]
    models: Mapping[str, ModelSpec]
    stages: Mapping[str, StageSpec]
    outputs: Mapping[str, OutputSpec]
