"""Stages by hand: a setup without a graph file, and a driver that does what the executor does."""

from contextlib import closing

import av
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from PIL import Image

from tests.models.conftest import TINY, model_spec, with_weights
from wanflow.graph.bound import BoundStage
from wanflow.graph.configs import known_config
from wanflow.graph.ops import OPS
from wanflow.models.bound import bind_model
from wanflow.stages import LatentSpace, StageSetup, Surroundings, make_program

SPACE = LatentSpace(channels=16, spatial=8, temporal=4)


@pytest.fixture
def program():
    """Make an op's program; params default as the op says."""

    def make(op, inputs, *, params=None, frames=9, **around):
        spec = OPS[op]
        params = {name: p.default for name, p in spec.params.items()} | (params or {})
        surroundings = {
            "device": torch.device("cpu"), "latent_space": SPACE,
            "latent_shape": SPACE.shape(64, 32, frames), "out": None, "recipe": {},
            "tokenize": None, "wants_negative": False,
        }  # fmt: skip
        bound = BoundStage(op, spec, None, inputs, params)
        return make_program(StageSetup(bound, None, Surroundings(**surroundings | around)))

    return make


@pytest.fixture
def drive():
    """Run a program's calls; before each, `feed(call)` may add values that others would make."""

    def run(program, values, *, feed=lambda _call: {}, calls=None):
        shape = lambda name: tuple(values[name].shape)  # noqa: E731 - a Protocol of one line
        with closing(program.calls({}, shape)) as made:
            for count, call in enumerate(made):
                if count == calls:
                    break
                values.update(feed(call))
                values.update(call.run({n: values[n] for n in call.reads if n in values}))
        return values

    return run


@pytest.fixture
def clip():
    """A clip as the decoder streams it: chunks `[1 or 4, 3, 32, 64]` in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(count, 3, 32, 64, generator=generator) for count in (1, 4, 4)]


@pytest.fixture
def feed(clip):
    """Give a writer's call the chunk it has waited for."""

    def give(call):
        chunk = call.chunk - 1
        return {"decode.frames": clip[chunk]} if chunk < len(clip) else {}

    return give


@pytest.fixture(scope="module")  # a profile leaves it unbound
def encoder():
    """The tiny VAE in fp32, all weights of its encoder bound."""
    spec = model_spec("vae", config="wan-tiny", fields=known_config("wan-tiny", "vae"))
    found = bind_model(spec, "fp32", TINY / "vae", TINY / "graph.yaml", {"encode_frames"})
    return with_weights(found).model


@pytest.fixture(scope="session")
def upstream():
    """The same VAE as diffusers loads it."""
    return AutoencoderKLWan.from_pretrained(TINY / "vae").eval()


@pytest.fixture
def picture(tmp_path):
    """Write a picture of its own size and seed; its path."""

    def make(seed=0, size=(50, 34)):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        path = tmp_path / f"{seed}.png"
        Image.fromarray(pixels).save(path)
        return str(path)

    return make


@pytest.fixture
def video(tmp_path):
    """Write a video of so many frames, grey if of one channel; its path."""

    def make(frames, name="in", seed=5, channels=3):
        path = tmp_path / f"{name}.mp4"
        rng = np.random.default_rng(seed)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=8)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for _ in range(frames):
                pixels = rng.integers(0, 256, (48, 64, channels), dtype=np.uint8)
                pixels = np.ascontiguousarray(np.broadcast_to(pixels, (48, 64, 3)))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        return str(path)

    return make
