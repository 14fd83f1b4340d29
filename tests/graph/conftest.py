"""A small graph that tests change one thing of."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wanflow.graph import CheckedGraph, GraphError, load_text

SMALL = """\
wanflow: 1
name: small
inputs:
  prompt: {type: text, default: a red circle}
  size: {type: size, default: 64*64}
  frames: {type: int, default: 17}
models:
  text: {part: text_encoder, config: wan-tiny}
  dit: {part: transformer, config: wan-tiny}
  vae: {part: vae, config: wan-tiny}
stages:
  encode: {op: encode_text, model: text, in: {prompt: $prompt}}
  noise: {op: noise, in: {size: $size, frames: $frames, seed: $seed}}
  denoise:
    op: denoise
    model: dit
    in: {text: encode.text, latents: noise.latents}
    params: {steps: $steps, sampler: unipc}
  decode: {op: decode_frames, model: vae, in: {latents: denoise.latents}}
  write: {op: write_video, in: {frames: decode.frames}, params: {fps: $fps}}
outputs: {video: write.file}
"""

Edit = Callable[..., CheckedGraph]
Refuse = Callable[..., GraphError]


@pytest.fixture
def small() -> str:
    """Give the text of a valid graph."""
    return SMALL


@pytest.fixture
def edited() -> Edit:
    """Load the small graph with pairs of old and new text applied."""

    def load_edited(*edits: tuple[str, str]) -> CheckedGraph:
        return load_text(_edit(*edits))

    return load_edited


@pytest.fixture
def refused() -> Refuse:
    """Give the error of the small graph with pairs of old and new text applied."""

    def load_refused(*edits: tuple[str, str]) -> GraphError:
        with pytest.raises(GraphError) as caught:
            load_text(_edit(*edits))
        return caught.value

    return load_refused


def _edit(*edits: tuple[str, str]) -> str:
    text = SMALL
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    return text
