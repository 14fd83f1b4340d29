"""Encode prompts with UMT5, layer by layer for the positive and the negative prompt together."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping
from typing import cast

import attrs
import ftfy
import regex
import torch

from wanflow.errors import WeightsError
from wanflow.models import umt5
from wanflow.models.segments import BoundModule
from wanflow.scheduler.program import GATHERED, Call, Gather, Knob, ShapeOf, Tensors
from wanflow.stages.base import StageSetup


def clean(prompt: str) -> str:
    """Clean a prompt as diffusers' Wan pipelines do (`pipeline_wan.prompt_clean`)."""
    text = html.unescape(html.unescape(ftfy.fix_text(prompt))).strip()
    return str(regex.sub(r"\s+", " ", text)).strip()


@attrs.frozen
class EncodeText:
    """Makes `text.positive` and, where guidance wants it, `text.negative`: `[1, tokens, width]`.

    The embedding's rows are gathered from the file; each layer is used for all prompts before the
    next one, so that streamed layers are read once. A prompt that is longer than `max_tokens` is
    cut, a shorter one padded with zeros after encoding.
    """

    setup: StageSetup
    stage: str = attrs.field(init=False)
    op: str = "encode_text"
    steps: int = 1
    consumes: str | None = None
    knobs: tuple[Knob, ...] = ()

    @stage.default
    def _stage(self) -> str:
        return self.setup.bound.name

    @property
    def model(self) -> BoundModule:
        """The text encoder."""
        return self.setup.module()

    def _prompts(self) -> dict[str, str]:
        prompts = {"positive": str(self.setup.value("prompt"))}
        if self.setup.around.wants_negative:
            given = self.setup.bound.inputs.get("negative_prompt") or ""
            prompts["negative"] = str(given)
        return prompts

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield: tokens, rows and mask of each prompt; each layer for each prompt; the ends."""
        del knobs, shape
        own, prompts = self.setup.own, self._prompts()
        for which, prompt in prompts.items():
            yield self._tokens(which, prompt)
            yield self._rows(which)
            yield self._mask(which)
        for index in range(len(self.model.module.encoder.block)):  # type: ignore[union-attr,arg-type]
            segment = self.model.segment_of(f"encoder.block.{index}")
            for which in prompts:
                yield self._layer(which, index, segment)
        norm = self.model.segment_of("encoder.final_layer_norm")
        for which in prompts:
            reads = (own(f"hidden.{which}"), own(f"ids_mask.{which}"))
            yield Call("finish", self._finish(which), reads, segment=norm)

    def _tokens(self, which: str, prompt: str) -> Call:
        ids_name = self.setup.own(f"ids.{which}")
        mask_name = self.setup.own(f"ids_mask.{which}")
        count = cast("int", self.setup.param("max_tokens"))
        around = self.setup.around

        def run(_values: Tensors) -> Tensors:
            if around.tokenize is None:
                raise WeightsError("there is no tokenizer", code="missing-tokenizer")
            ids, mask = around.tokenize(clean(prompt), count)
            device = around.device
            return {
                ids_name: torch.tensor([ids], dtype=torch.int64),
                mask_name: torch.tensor([mask], dtype=torch.int64, device=device),
            }

        def stand_in(_values: Tensors) -> Tensors:
            made = torch.zeros(1, count, dtype=torch.int64)
            return {ids_name: made, mask_name: torch.zeros_like(made)}

        return Call(f"tokens.{which}", run, stand_in=stand_in)

    def _rows(self, which: str) -> Call:
        ids = self.setup.own(f"ids.{which}")

        def run(values: Tensors) -> Tensors:
            return {self.setup.own(f"hidden.{which}"): values[GATHERED].unsqueeze(0).clone()}

        return Call(f"rows.{which}", run, (ids,), gather=Gather(umt5.EMBEDDING, ids))

    def _mask(self, which: str) -> Call:
        own, module = self.setup.own, self.model.module

        def run(values: Tensors) -> Tensors:
            hidden, mask = values[own(f"hidden.{which}")], values[own(f"ids_mask.{which}")]
            return {own(f"attention.{which}"): umt5.attention_mask(module, hidden, mask)}

        return Call(f"mask.{which}", run, (own(f"hidden.{which}"), own(f"ids_mask.{which}")))

    def _layer(self, which: str, index: int, segment: str) -> Call:
        own, module = self.setup.own, self.model.module
        hidden, mask = own(f"hidden.{which}"), own(f"attention.{which}")

        def run(values: Tensors) -> Tensors:
            return {hidden: umt5.layer(module, index, values[hidden], values[mask])}

        return Call(f"layer.{which}", run, (hidden, mask), segment=segment)

    def _finish(self, which: str) -> Callable[[Tensors], Tensors]:
        own, module = self.setup.own, self.model.module

        def run(values: Tensors) -> Tensors:
            hidden, mask = values[own(f"hidden.{which}")], values[own(f"ids_mask.{which}")]
            return {own(f"text.{which}"): umt5.finish(module, hidden, mask)}

        return run
