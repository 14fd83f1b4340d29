"""Encode pictures with CLIP's vision tower, layer by layer, all pictures together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch

from wanflow.models.wan import clip
from wanflow.scheduler.program import Call, ShapeOf, Tensors
from wanflow.stages.base import StageProgram
from wanflow.stages.clip import open_image


@attrs.frozen
class EncodeImage(StageProgram):
    """Makes `image` `[pictures, tokens, width]`: the first picture, then the last if there is one.

    Pictures are cut and scaled as transformers' image processor does, from their own size.
    """

    def calls(self, knobs: Mapping[str, str], shape: ShapeOf) -> Iterator[Call]:
        """Yield: pixels, embeddings, each layer; the last layer's output is the embedding."""
        del knobs, shape
        own, module = self.setup.own, self.module
        yield self._pixels()

        def embed(values: Tensors) -> Tensors:
            return {own("hidden"): clip.embed(module, values[own("pixels")])}

        segment = self.bound_model.segment_of("embeddings", "pre_layrnorm")
        yield Call("embed", embed, (own("pixels"),), segment=segment)
        count = clip.layers(module)
        for index in range(count):
            yield self._layer(index, "image" if index == count - 1 else "hidden")

    def _layer(self, index: int, makes: str) -> Call:
        own, module = self.setup.own, self.module

        def run(values: Tensors) -> Tensors:
            return {own(makes): clip.layer(module, index, values[own("hidden")])}

        segment = self.bound_model.segment_of(f"encoder.layers.{index}")
        return Call(f"layer.{makes}", run, (own("hidden"),), segment=segment)

    def _pixels(self) -> Call:
        inputs, device = self.setup.bound.inputs, self.setup.around.device
        config: Any = self.module.config
        paths = [str(inputs[port]) for port in ("image", "last_image") if inputs.get(port)]
        name, side = self.setup.own("pixels"), config.image_size

        def run(_values: Tensors) -> Tensors:
            pictures = [open_image(path) for path in paths]
            batch = torch.empty(len(paths), 3, side, side)
            for place, pixels in zip(batch, _processor(side)(images=pictures), strict=True):
                place.copy_(torch.as_tensor(pixels))
            return {name: batch.to(device)}

        def stand_in(_values: Tensors) -> Tensors:
            return {name: torch.empty(len(paths), 3, side, side)}

        return Call(f"pixels.{len(paths)}", run, stand_in=stand_in)


def _processor(side: int) -> Any:
    """Give a function from pictures to their pixels: CLIP's own, for a tower of another size too.

    transformers' class that needs no torchvision, so that pixels are the same with and without.
    """
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    return lambda images: processor(images=images, return_tensors="pt")["pixel_values"]
