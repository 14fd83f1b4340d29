"""In strips the decoder gives the frames that it gives whole, in their order."""

from contextlib import closing

import pytest
import torch

from tests.models.conftest import TINY, model_spec, with_weights
from wanflow.graph.bound import BoundStage
from wanflow.graph.configs import known_config
from wanflow.graph.ops import OPS
from wanflow.graph.spec import PortRef
from wanflow.models.bound import bind_model
from wanflow.stages import LatentSpace, StageSetup, Surroundings, make_program

SPACE = LatentSpace(channels=16, spatial=8, temporal=4)
SETTINGS = ("strips.16", "strips.12", "strips.8", "strips.4", "strips.2", "frames.8", "frames.2")


@pytest.fixture(scope="module")
def model():
    """The tiny VAE in fp32, all its weights bound."""
    spec = model_spec("vae", config="wan-tiny", fields=known_config("wan-tiny", "vae"))
    found = bind_model(spec, "fp32", TINY / "vae", TINY / "graph.yaml")
    return with_weights(found).model


@pytest.fixture
def program(model):
    """Make the stage for a clip's width, height and frames."""

    def make(width, height, frames):
        around = Surroundings(
            torch.device("cpu"), SPACE, SPACE.shape(width, height, frames), None, {}, None,
            wants_negative=False,
        )  # fmt: skip
        bound = BoundStage(
            "decode", OPS["decode_frames"], None, {"latents": PortRef("denoise", "latents")}, {}
        )
        return make_program(StageSetup(bound, model, around))

    return make


def decode(program, setting):
    """Run the calls as the executor does; each chunk, and the call before which it was there."""
    shape = program.setup.around.latent_shape
    generator = torch.Generator().manual_seed(0)
    values = {"denoise.latents": torch.randn(shape, generator=generator)}
    chunks, calls = [], []
    shape_of = lambda name: tuple(values[name].shape)  # noqa: E731 - a Protocol of one line
    with torch.no_grad(), closing(program.calls({"strips": setting}, shape_of)) as made:
        for call in made:
            values.update(call.run({n: values[n] for n in call.reads if n in values}))
            calls.append(call)
            if call.emits:
                chunks.append(values["decode.frames"])
    return chunks, calls


def levels(chunks):
    """All frames as whole numbers, one chunk after the other."""
    return torch.cat([c if c.dtype == torch.uint8 else (c * 255).round() for c in chunks]).int()


class TestStrips:
    """The frames of every setting."""

    @pytest.mark.parametrize("setting", SETTINGS[1:])
    @pytest.mark.parametrize(
        "clip",
        [(136, 96, 1), (136, 96, 5), (96, 152, 9), (80, 16, 17), (256, 64, 9)],
        ids=lambda clip: "x".join(map(str, clip)),
    )
    def test_same_frames_as_whole(self, program, clip, setting):
        """No level differs by more than one, for lying, standing and thin clips."""
        stage = program(*clip)
        whole, _ = decode(stage, "whole")
        made, _ = decode(stage, setting)
        assert [len(chunk) for chunk in whole] == [len(chunk) for chunk in made]
        difference = (levels(whole) - levels(made)).abs()
        assert difference.max() <= 1
        assert difference.float().mean() < 1e-3

    def test_frames_outermost_streams(self, program):
        """A chunk goes on before the next frame is begun; with strips outermost, at the end."""
        _, calls = decode(program(136, 96, 9), "frames.8")
        assert [c.step for c in calls if c.emits] == [0, 1, 2]
        assert all(c.step == 2 for c in calls[-3:])
        _, calls = decode(program(136, 96, 9), "strips.8")
        assert all(c.emits for c in calls[-3:])


class TestKnob:
    """What the planner may choose."""

    def test_marks(self, program):
        """Whole is bitwise and comes first; strips round."""
        (knob,) = program(136, 96, 9).knobs
        heights = [f"strips.{rows}" for rows in (16, 12, 8, 4, 2, 1)]
        assert ["whole", *heights, "frames.8", "frames.2"] == list(knob.choices)
        assert ["bitwise", *["rounding"] * 8] == list(knob.choices.values())

    def test_only_heights_that_cut(self, program):
        """A frame of eight latent rows isn't cut into strips of eight."""
        (knob,) = program(64, 64, 9).knobs
        assert list(knob.choices) == [
            "whole", "strips.4", "strips.2", "strips.1", "frames.2",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("clip", "setting"),
        [((64, 64, 9), "strips.1"), ((480, 832, 81), "strips.8"), ((1280, 720, 81), "strips.12")],
    )
    def test_one_is_searched(self, program, clip, setting):
        """The planner tries the leanest one of few strips."""
        (knob,) = program(*clip).knobs
        assert {setting: 1} == dict(knob.levels)

    def test_every_call_is_one_of_few_kinds(self, program):
        """Strips in the middle of a clip are alike, however many there are."""
        kinds = [
            {c.kind for c in decode(program(width, 16, 9), "strips.2")[1]} for width in (256, 320)
        ]
        assert kinds[0] == kinds[1]
