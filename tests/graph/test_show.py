"""A graph as data, text and Mermaid."""

from __future__ import annotations

import json

from wanflow.graph import as_mermaid, describe, load
from wanflow.graph.show import as_text

TEXT = """\
small
encode (encode_text, model text)
  prompt <- $prompt
  max_tokens = 512 (default)
noise (noise)
  size <- $size
  frames <- $frames
  seed <- $seed
denoise (denoise, model dit, repeats: steps)
  text <- encode.text
  latents <- noise.latents
  steps = $steps
  sampler = unipc
  shift = 5.0 (default)
  grid = diffusers (default)
  guidance = 5.0 (default)
  noise_from = 1.0 (default)
  noise_to = 0.0 (default)
  strength = 1.0 (default)
  timesteps = (default)
  token_timesteps = shared (default)
  cache = none (default)
  cache_threshold = 0.0 (default)
  cache_retention = 0.2 (default)
  cache_k = 2 (default)
  cache_coefficients = (default)
  cache_ratios = (default)
  control_scale = 1.0 (default)
  attention = native (default)
decode (decode_frames, model vae, repeats: latent frames)
  latents <- denoise.latents
write (write_video)
  frames <- decode.frames
  fps = $fps
  name = video.mp4 (default)
output video = write.file"""

MERMAID = """\
flowchart LR
    s_encode["encode<br/>encode_text<br/>text"]
    s_noise["noise<br/>noise"]
    s_denoise["denoise<br/>denoise<br/>dit"]
    s_decode["decode<br/>decode_frames<br/>vae"]
    s_write["write<br/>write_video"]
    s_encode -- text embedding --> s_denoise
    s_noise -- latents --> s_denoise
    s_denoise -- latents --> s_decode
    s_decode -- frames --> s_write
    s_write -- file --> o_video([video])
"""


def test_text(edited) -> None:
    """Every stage with what feeds it, in running order."""
    assert as_text(edited()) == TEXT


def test_mermaid(edited) -> None:
    """GitHub draws it."""
    assert as_mermaid(edited()) == MERMAID


def test_describe_is_json(edited) -> None:
    """The same as data."""
    data = describe(edited())
    assert json.loads(json.dumps(data)) == data


def test_describe_names_stages_and_edges(edited) -> None:
    """References are written as in the file."""
    stages = describe(edited())["stages"]
    assert isinstance(stages, list)
    assert [stage["stage"] for stage in stages] == ["encode", "noise", "denoise", "decode", "write"]
    assert stages[2]["params"] == {
        "steps": "$steps", "sampler": "unipc", "shift": 5.0, "grid": "diffusers",
        "guidance": 5.0, "noise_from": 1.0, "noise_to": 0.0, "strength": 1.0,
        "timesteps": "", "token_timesteps": "shared", "cache": "none", "cache_threshold": 0.0,
        "cache_retention": 0.2, "cache_k": 2, "cache_coefficients": "", "cache_ratios": "",
        "control_scale": 1.0, "attention": "native",
    }  # fmt: skip


def test_describe_says_which_inputs_are_required() -> None:
    """The 1.3B graph has no prompt of its own."""
    inputs = describe(load("t2v-1.3b"))["inputs"]
    assert isinstance(inputs, list)
    assert [each["name"] for each in inputs if each["required"]] == ["prompt"]


def test_long_and_hostile_text_is_cut(edited) -> None:
    """A prompt of a thousand words doesn't fill the screen."""
    graph = edited(("{prompt: $prompt}", '{prompt: "' + "\\e" * 500 + '"}'))
    line = as_text(graph).split("\n")[2]
    assert len(line) < 80
    assert line.isprintable()
