"""A graph half read: the sections so far, and the names whose records turned out wrong.

A wrong stage is left out of `stages` but stays in `stage_names`: what refers to it is not told
that it doesn't exist.
"""

from __future__ import annotations

import attrs

from wanflow.graph.inputs import STANDARD, InputSpec
from wanflow.graph.problems import ProblemList
from wanflow.graph.source import Mark
from wanflow.graph.spec import GraphSpec, ModelSpec, OutputSpec, StageSpec
from wanflow.graph.wording import quoted


@attrs.define
class Draft:
    """Live state while a graph file is read."""

    problems: ProblemList
    name: str = ""
    about: str = ""
    inputs: dict[str, InputSpec] = attrs.Factory(dict)
    models: dict[str, ModelSpec] = attrs.Factory(dict)
    stages: dict[str, StageSpec] = attrs.Factory(dict)
    outputs: dict[str, OutputSpec] = attrs.Factory(dict)
    input_names: set[str] = attrs.Factory(set)
    model_names: set[str] = attrs.Factory(set)
    stage_names: set[str] = attrs.Factory(set)

    def find_input(self, name: str, mark: Mark, stage: str) -> InputSpec | None:
        """Give the input that `$name` means: declared in the file, or standard."""
        if name in self.inputs:
            return self.inputs[name]
        if name in self.input_names:
            return None  # its declaration is wrong, and that is told already
        if name not in STANDARD:
            message = f"stage '{stage}' refers to unknown input {quoted('$' + name)}"
            names = {*self.input_names, *STANDARD}
            self.problems.add("unknown-input", message, mark, stage=stage, word=name, names=names)
            return None
        self.inputs[name] = STANDARD[name]
        return self.inputs[name]

    def spec(self) -> GraphSpec:
        """Give the finished record."""
        return GraphSpec(
            name=self.name,
            about=self.about,
            inputs=self.inputs,
            models=self.models,
            stages=self.stages,
            outputs=self.outputs,
        )
