"""Encode prompts with UMT5, half a layer at a time, for the positive and the negative prompt."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import attrs
import ftfy
import regex
import torch

from wanflow.errors import WeightsError
from wanflow.models.wan import umt5
from wanflow.scheduler.knobs import Knob
from wanflow.scheduler.program import GATHERED, Call, Gather, ShapeOf, Tensors
from wanflow.stages.base import KeptText, StageProgram, Tokens


def clean(prompt: str) -> str:
    """Clean a prompt as diffusers' Wan pipelines do (`pipeline_wan.prompt_clean`)."""
    text = html.unescape(html.unescape(ftfy.fix_text(prompt))).strip()
    return str(regex.sub(r"\s+", " ", text)).strip()


TOKENS = Knob(
    "tokens", {"all": "bitwise", "real": "rounding"},
    "encode a prompt padded to max_tokens, or its own tokens padded to a multiple of 16",
    settled="real",
)  # fmt: skip
_MULTIPLE = 16  # bit-equal to the full length wherever kernels sum in the same order


@attrs.frozen
class _Text:
    """A prompt that is to be text: `tokens` is None where a plan can't know them."""

    which: str
    prompt: str
    count: int
    tokens: Tokens | None = None
    kept: KeptText | None = None


MORE = "more"  # prompts beside a graph's own are `more@0`, `more@1`, ...


def _kind(which: str) -> str:
    """Name what calls of prompts alike have in common."""
    return which.partition("@")[0]


def _places(which: str) -> tuple[str, ...]:
    """Which of many alike it is; see `Call.places`."""
    place = which.partition("@")[2]
    return (place,) if place else ()


def _length(text: _Text) -> list[int | None]:
    return [text.count, len(text.tokens.ids) if text.tokens is not None else None]


@attrs.frozen
class EncodeText(StageProgram):
    """Makes `text.positive` and, where guidance wants it, `text.negative`: `[1, tokens, width]`.

    The embedding's rows are gathered from the file; each half of a layer is used for all prompts
    before the next one, so that streamed weights are read once. A prompt that is longer than
    `max_tokens` is cut, a shorter one padded with zeros after encoding. With `tokens` `real`,
    padding is left out: it is masked and reaches no real token. Without a tokenizer a prompt counts
    as full. A prompt that was encoded before, in the same way, is read instead.
    """

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """Whether padding is encoded; without a tokenizer there is nothing to choose between."""
        return (attrs.evolve(TOKENS, searched=self.setup.around.tokenize is not None),)

    @property
    def _most(self) -> int:
        return cast("int", self.setup.param("max_tokens"))

    def _prompts(self) -> dict[str, str]:
        if self.setup.around.more_prompts:
            return dict(self.setup.around.more_prompts)
        prompts = {"positive": str(self.setup.value("prompt"))}
        if self.setup.around.wants_negative:
            given = self.setup.bound.inputs.get("negative_prompt") or ""
            prompts["negative"] = str(given)
        return prompts

    def _text(self, which: str, prompt: str, way: str) -> _Text:
        """Count the tokens the layers are given. No prompt stands for any: it may be a plan's."""
        tokenize, texts = self.setup.around.tokenize, self.setup.around.texts
        if tokenize is None or (which == "positive" and not prompt):
            return _Text(which, prompt, self._most)
        ids, mask = tokenize(clean(prompt), self._most)
        count, own = self._most, sum(mask)
        if way == "real":
            count = min(count, max(math.ceil(own / _MULTIPLE), 1) * _MULTIPLE)
        tokens = Tokens(tuple(ids[:own]), count)
        kept = None if texts is None else texts.find(tokens)
        return _Text(which, prompt, count, tokens, kept)

    def unkept(self, way: str) -> list[str]:
        """The prompts that would have to be encoded, *way* being the value of the knob `tokens`."""
        texts = [self._text(which, prompt, way) for which, prompt in self._prompts().items()]
        return [text.prompt for text in texts if text.tokens is not None and text.kept is None]

    def decided(self) -> list[list[object]]:
        """What of its prompts decides the calls, as plain data: how long, and which are kept."""
        texts = [
            self._text(which, prompt, way)
            for way in TOKENS.choices
            for which, prompt in self._prompts().items()
        ]
        return [
            [t.which, *([None, None] if t.kept is not None else _length(t)), t.kept is not None]
            for t in texts
        ]

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield: what is read; else tokens, rows and mask; each half layer; the ends."""
        del shape
        own, way = self.setup.own, knobs.get(TOKENS.name, "all")
        texts = [self._text(which, prompt, way) for which, prompt in self._prompts().items()]
        yield from (self._cached(text, text.kept) for text in texts if text.kept is not None)
        texts = [text for text in texts if text.kept is None]
        if not texts:
            return
        for text in texts:
            yield self._tokens(text)
            yield self._rows(text.which)
            yield self._mask(text.which)
        yield from self._layers([text.which for text in texts])
        norm = self.bound_model.segment_of("encoder.final_layer_norm")
        for text in texts:
            reads = (own(f"hidden.{text.which}"), own(f"ids_mask.{text.which}"))
            places = _places(text.which)
            yield Call("finish", self._finish(text), reads, segment=norm, places=places)

    def _layers(self, which: Sequence[str]) -> Iterator[Call]:
        for index in range(len(self.module.encoder.block)):
            attention, feed = (
                self.bound_model.segment_of(f"encoder.block.{index}.layer.{half}", part=True)
                for half in (0, 1)
            )
            yield from (self._attend(each, index, attention) for each in which)
            yield from (self._feed(each, index, feed) for each in which)

    def _cached(self, text: _Text, kept: KeptText) -> Call:
        """Read what is kept of a prompt; the padding behind it is zeros."""
        name, device = self.setup.own(f"text.{text.which}"), self.setup.around.device
        row, ids = (
            self.bound_model.rows(umt5.EMBEDDING),
            0 if text.tokens is None else len(text.tokens.ids),
        )

        def blank(_values: Tensors) -> Tensors:
            return {name: torch.zeros(1, self._most, *row.shape, dtype=row.dtype)}

        def run(values: Tensors) -> Tensors:
            made = blank(values)[name]
            kept.read_into(made[0, :ids])
            return {name: made.to(device)}

        which, places = _kind(text.which), _places(text.which)
        return Call(f"cached.{which}", run, stand_in=blank, places=places)

    def _tokens(self, text: _Text) -> Call:
        ids_name = self.setup.own(f"ids.{text.which}")
        mask_name = self.setup.own(f"ids_mask.{text.which}")
        around, most, count = self.setup.around, self._most, text.count

        def run(_values: Tensors) -> Tensors:
            if around.tokenize is None:
                raise WeightsError("there is no tokenizer", code="missing-tokenizer")
            ids, mask = around.tokenize(clean(text.prompt), most)
            ids, mask = ids[:count], mask[:count]
            return {
                ids_name: torch.tensor([ids], dtype=torch.int64),
                mask_name: torch.tensor([mask], dtype=torch.int64, device=around.device),
            }

        def stand_in(_values: Tensors) -> Tensors:
            made = torch.zeros(1, count, dtype=torch.int64)
            return {ids_name: made, mask_name: torch.zeros_like(made)}

        which, places = _kind(text.which), _places(text.which)
        kind = f"tokens.{which}" if count == most else f"tokens.{which}.{count}"
        return Call(kind, run, stand_in=stand_in, places=places)

    def _rows(self, which: str) -> Call:
        ids = self.setup.own(f"ids.{which}")

        def run(values: Tensors) -> Tensors:
            return {self.setup.own(f"hidden.{which}"): values[GATHERED].unsqueeze(0).clone()}

        kind, gather = f"rows.{_kind(which)}", Gather(umt5.EMBEDDING, ids)
        return Call(kind, run, (ids,), gather=gather, places=_places(which))

    def _mask(self, which: str) -> Call:
        own, module = self.setup.own, self.module

        def run(values: Tensors) -> Tensors:
            hidden, mask = values[own(f"hidden.{which}")], values[own(f"ids_mask.{which}")]
            return {own(f"attention.{which}"): umt5.attention_mask(module, hidden, mask)}

        reads = (own(f"hidden.{which}"), own(f"ids_mask.{which}"))
        return Call(f"mask.{_kind(which)}", run, reads, places=_places(which))

    def _attend(self, which: str, index: int, segment: str) -> Call:
        own, module = self.setup.own, self.module
        hidden, mask = own(f"hidden.{which}"), own(f"attention.{which}")

        def run(values: Tensors) -> Tensors:
            return {hidden: umt5.attend(module, index, values[hidden], values[mask])}

        kind, places = f"attend.{_kind(which)}", _places(which)
        return Call(kind, run, (hidden, mask), segment=segment, places=places)

    def _feed(self, which: str, index: int, segment: str) -> Call:
        module, hidden = self.module, self.setup.own(f"hidden.{which}")

        def run(values: Tensors) -> Tensors:
            return {hidden: umt5.feed(module, index, values[hidden])}

        kind, places = f"feed.{_kind(which)}", _places(which)
        return Call(kind, run, (hidden,), segment=segment, places=places)

    def _finish(self, text: _Text) -> Callable[[Tensors], Tensors]:
        own, module, around = self.setup.own, self.module, self.setup.around

        def run(values: Tensors) -> Tensors:
            hidden = values[own(f"hidden.{text.which}")]
            made = umt5.finish(module, hidden, values[own(f"ids_mask.{text.which}")], self._most)
            running = around.out is not None
            if running and around.texts is not None and text.tokens is not None:
                around.texts.keep(text.tokens, made[0, : len(text.tokens.ids)])
            return {own(f"text.{text.which}"): made}

        return run
