"""Encoding a clip: diffusers' own latents whole, and the same in strips; the mask beside them."""

from contextlib import closing
from pathlib import Path

import av
import pytest
import torch
from diffusers.video_processor import VideoProcessor
from PIL import Image

from wanflow.errors import InputError
from wanflow.graph import Size
from wanflow.graph.bound import BoundStage
from wanflow.graph.ops import OPS
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.stages import LatentSpace, StageSetup, Surroundings, make_program

SPACE = LatentSpace(channels=16, spatial=8, temporal=4)
SETTINGS = ("frames.8", "frames.2", "strips.8", "strips.4", "strips.2")


@pytest.fixture
def program(encoder):
    """Make the stage for a clip's width, height and frames, and what is given of it."""

    def make(width, height, frames, **given):
        around = Surroundings(
            torch.device("cpu"), SPACE, SPACE.shape(width, height, frames), None, {}, None,
            wants_negative=False,
        )  # fmt: skip
        inputs = {**given, "size": Size(width, height), "frames": frames}
        bound = BoundStage("see", OPS["encode_frames"], None, inputs, {"fit": "stretch"})
        return make_program(StageSetup(bound, encoder, around))

    return make


def encode(program, setting):
    """Run the calls as the executor does; what is made at the end, and the calls."""
    values, calls = {}, []
    with torch.no_grad(), closing(program.calls({"strips": setting}, None)) as made:
        for call in made:
            values.update(call.run({n: values[n] for n in call.reads if n in values}))
            calls.append(call)
    return values["see.latents"], values["see.mask"], calls


def condition(upstream, frames, *pictures):
    """The pipeline's own latents and mask (`WanImageToVideoPipeline.prepare_latents`)."""
    from diffusers import WanImageToVideoPipeline

    size, paths = pictures[0], pictures[1:]
    processor = VideoProcessor(vae_scale_factor=8)
    width, height = size
    images = [
        processor.preprocess(Image.open(path).convert("RGB"), height=height, width=width)
        for path in paths
    ]
    pipe = WanImageToVideoPipeline(None, None, upstream, None)
    generator = torch.Generator().manual_seed(0)
    last = images[1] if len(images) > 1 else None
    with torch.no_grad():
        _, made = pipe.prepare_latents(
            images[0], 1, 16, height, width, frames, torch.float32, torch.device("cpu"),
            generator, None, last,
        )  # fmt: skip
    return made[:, 4:], made[:, :4]


class TestPictures:
    """A first frame, and a last one."""

    @pytest.mark.parametrize("frames", [1, 5, 9])
    def test_first_frame_is_the_pipelines(self, program, upstream, picture, frames):
        """Latents and mask are the pipeline's, bit for bit."""
        path = picture()
        latents, mask, _ = encode(program(64, 48, frames, image=path), "whole")
        wanted = condition(upstream, frames, (64, 48), path)
        assert torch.equal(wanted[0], latents)
        assert torch.equal(wanted[1], mask)

    @pytest.mark.parametrize("frames", [5, 9])
    def test_first_and_last_frame_are_the_pipelines(self, program, upstream, picture, frames):
        """With a last frame too."""
        paths = picture(), picture(1)
        stage = program(64, 48, frames, image=paths[0], last_image=paths[1])
        latents, mask, _ = encode(stage, "whole")
        wanted = condition(upstream, frames, (64, 48), *paths)
        assert torch.equal(wanted[0], latents)
        assert torch.equal(wanted[1], mask)

    def test_what_is_no_picture(self, program, tmp_path):
        """Told with its path."""
        path = tmp_path / "text.png"
        path.write_text("no picture")
        with pytest.raises(InputError, match=r"text\.png: no picture"):
            encode(program(64, 48, 5, image=str(path)), "whole")


class TestVideo:
    """Every frame given."""

    @pytest.mark.parametrize("frames", [1, 9])
    def test_is_diffusers_encode(self, program, upstream, video, frames):
        """The latents of all frames of the file."""
        path = video(frames)
        latents, mask, _ = encode(program(64, 48, frames, video=path), "whole")
        with av.open(path) as container:
            pictures = [frame.to_image() for frame in container.decode(video=0)]
        clip = VideoProcessor(vae_scale_factor=8).preprocess_video(pictures, 48, 64)
        config, shape = upstream.config, (1, 16, 1, 1, 1)
        with torch.no_grad():
            mode = upstream.encode(clip).latent_dist.mode()
        mean = torch.tensor(config.latents_mean).view(shape)
        wanted = (mode - mean) * (1.0 / torch.tensor(config.latents_std).view(shape))
        assert torch.equal(wanted, latents)
        assert mask.all()

    def test_too_short(self, program, video):
        """Told with what the file has and what can be asked for."""
        with pytest.raises(InputError, match="has 6 frames, 9 are asked for") as raised:
            encode(program(64, 48, 9, video=video(6)), "whole")
        assert "at most 5" in raised.value.hint

    def test_what_is_no_video(self, program, picture):
        """A path that isn't there."""
        with pytest.raises(InputError, match="No such file"):
            encode(program(64, 48, 9, video=str(Path(picture()).parent / "none.mp4")), "whole")


class TestStrips:
    """The latents of every setting."""

    @pytest.mark.parametrize("setting", SETTINGS)
    @pytest.mark.parametrize(
        "clip",
        [(136, 32, 1), (136, 32, 5), (32, 152, 9), (80, 16, 17)],
        ids=lambda clip: "x".join(map(str, clip)),
    )
    def test_same_latents_as_whole(self, program, picture, clip, setting):
        """Lying, standing and thin clips of pictures, which strips don't divide."""
        last = {"last_image": picture(1)} if clip[2] > 1 else {}
        stage = program(*clip, image=picture(), **last)
        whole, _, _ = encode(stage, "whole")
        made, _, _ = encode(stage, setting)
        assert (whole - made).abs().max() <= 1e-5 * whole.abs().max()

    @pytest.mark.parametrize("setting", ["frames.2", "strips.2"])
    def test_of_a_video(self, program, video, setting):
        """Every chunk has pixels of its own."""
        stage = program(64, 48, 9, video=video(9))
        whole, _, _ = encode(stage, "whole")
        made, _, _ = encode(stage, setting)
        assert (whole - made).abs().max() <= 1e-5 * whole.abs().max()

    def test_kinds_do_not_grow(self, program, picture):
        """Longer and wider clips have no more kinds of calls."""
        path = picture()
        kinds = [
            {c.kind for c in encode(program(width, 16, frames, image=path), "strips.2")[2]}
            for width, frames in ((96, 13), (128, 17))
        ]
        assert kinds[0] == kinds[1]

    def test_settings_share_no_kind(self, program):
        """What one setting's calls make isn't taken for what another's do."""
        stage, profiler = program(64, 48, 9, video="of no matter"), Profiler("cpu")
        for setting in ("whole", "strips.2", "frames.2"):
            made, alone = (
                each.profile((stage,), {"see": {"strips": setting}}, lambda _name: True)
                for each in (profiler, Profiler("cpu"))
            )
            assert alone.calls == made.calls


class TestKnob:
    """What the planner may choose."""

    def test_marks(self, program):
        """Whole is bitwise and comes first; strips round."""
        (knob,) = program(136, 96, 9).knobs
        heights = [f"strips.{rows}" for rows in (16, 12, 8, 4, 2, 1)]
        assert ["whole", *heights, "frames.8", "frames.2"] == list(knob.choices)
        assert ["bitwise", *["rounding"] * 8] == list(knob.choices.values())
        assert dict(knob.levels) == {"strips.2": 1}
