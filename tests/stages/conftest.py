"""Stages by hand: a setup without a graph file, and a driver that does what the executor does."""

from contextlib import closing

import pytest
import torch

from wanflow.graph.bound import BoundStage
from wanflow.graph.ops import OPS
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
