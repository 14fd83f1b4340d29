"""What a VACE model is told: diffusers' own latents and masks, in every combination; in strips."""

from contextlib import closing
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from diffusers import UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel
from PIL import Image

from tests.stages.conftest import SPACE
from wanflow.errors import InputError
from wanflow.files.videos import open_video
from wanflow.graph import Size
from wanflow.graph.bound import BoundStage
from wanflow.graph.ops import OPS
from wanflow.scheduler.profile.profiler import Profiler
from wanflow.stages import StageSetup, Surroundings, make_program
from wanflow.stages.encode_control import frame_of_mask

WIDTH, HEIGHT, FRAMES = 64, 48, 5


@pytest.fixture
def program(encoder):
    """Make the stage for what is given."""

    def make(width=WIDTH, height=HEIGHT, frames=FRAMES, **given):
        around = Surroundings(
            torch.device("cpu"), SPACE, SPACE.shape(width, height, frames), None, {}, None,
            wants_negative=False,
        )  # fmt: skip
        inputs = {**given, "size": Size(width, height), "frames": frames}
        bound = BoundStage("told", OPS["encode_control"], None, inputs, {})
        return make_program(StageSetup(bound, encoder, around))

    return make


def encode(program, setting="whole"):
    """Run the calls as the executor does; the control, and the calls."""
    values, calls = {}, []
    with torch.no_grad(), closing(program.calls({"strips": setting}, None)) as made:
        for call in made:
            values.update(call.run({n: values[n] for n in call.reads if n in values}))
            calls.append(call)
    return values["told.control"], calls


@pytest.fixture
def pipeline(upstream):
    """The parts of diffusers' pipeline that a control is made with."""
    with torch.device("meta"):
        transformer = WanVACETransformer3DModel(num_layers=1, vace_layers=[0])
    return WanVACEPipeline(None, None, upstream, UniPCMultistepScheduler(), transformer)


def expected(pipeline, video=None, mask=None, references=()):
    """Diffusers' control; it puts each reference before those that came before it."""
    frames = [
        None if path is None else [*open_video(Path(path)).frames()] for path in (video, mask)
    ]
    frames = [None if listed is None else listed[:FRAMES] for listed in frames]
    pictures = [Image.open(path) for path in references][::-1] or None
    with torch.no_grad():
        given = pipeline.preprocess_conditions(
            *frames, pictures, 1, HEIGHT, WIDTH, FRAMES, torch.float32, torch.device("cpu")
        )
        latents = pipeline.prepare_video_latents(*given, None, torch.device("cpu"))
        return torch.cat([latents, pipeline.prepare_masks(given[1], given[2])], dim=1)


class TestCombinations:
    """All that official code takes, bit for bit."""

    @pytest.mark.parametrize("references", [0, 1, 2])
    @pytest.mark.parametrize("files", [(), ("video",), ("video", "mask")], ids="+".join)
    def test_are_the_pipelines(self, program, pipeline, video, picture, files, references):
        """Nothing, references, a video, a video and a mask, and these with references."""
        # The mask is grey: of another the official code takes the red, diffusers each colour.
        given = {name: video(FRAMES, name, n, 3 - 2 * n) for n, name in enumerate(files)}
        # Sides of eight: diffusers makes them so by stretching, the official code does not.
        pictures = [
            picture(seed, size)
            for seed, size in zip(range(references), [(40, 72), (96, 16)], strict=False)
        ]
        control, _ = encode(program(**given, reference_images=",".join(pictures)))
        assert control.shape == (1, 96, references + 2, HEIGHT // 8, WIDTH // 8)
        assert torch.equal(control, expected(pipeline, references=pictures, **given))

    def test_reads_nothing_that_is_not_there(self, program, video):
        """Grey is zeros inside a kernel; without a video it is encoded once."""
        _, grey = encode(program())
        _, alone = encode(program(video=video(FRAMES)))
        assert not any(call.kind.startswith("pixels") for call in grey)
        assert sum(call.kind.startswith("pixels") for call in alone) == 2
        assert [sum(c.kind == "latents" for c in calls) for calls in (grey, alone)] == [1, 2]

    def test_first_calls_read_no_cache_of_another_clip(self, program, video):
        """What the clip before has kept is not read where a clip begins."""
        _, calls = encode(program(video=video(FRAMES)))
        begins = [call for call in calls if call.kind.endswith(".0")]
        assert len(begins) > 10
        assert not any(".state." in name for call in begins for name in call.reads)


class TestMask:
    """Which frame of it a latent frame is told by."""

    @pytest.mark.parametrize("latent_frames", [1, 2, 3, 21, 31, 1024])
    def test_is_torchs_choice(self, latent_frames):
        """`nearest-exact` of a row of numbers."""
        frames = 4 * (latent_frames - 1) + 1
        row = torch.arange(frames, dtype=torch.float64).view(1, 1, frames)
        wanted = F.interpolate(row, size=latent_frames, mode="nearest-exact").flatten().tolist()
        made = [frame_of_mask(n, latent_frames, frames) for n in range(latent_frames)]
        assert made == [int(number) for number in wanted]

    def test_that_ends_early(self, program, video):
        """Told with what it has."""
        stage = program(video=video(FRAMES), mask=video(4, "mask"))
        with pytest.raises(InputError, match=r"mask\.mp4: has 4 frames, 5 are asked for"):
            encode(stage)


class TestFit:
    """Files of another shape than the clip."""

    def test_video_is_cut_to_cover(self, program, video):
        """As Wan's own code has it: nothing is stretched; diffusers would."""
        wide, _ = encode(program(width=32, height=48, video=video(FRAMES)))
        assert wide.shape == (1, 96, 2, 6, 4)

    def test_reference_of_odd_sides(self, program, picture):
        """Letterboxed as it is."""
        control, _ = encode(program(frames=1, reference_images=picture(1, (37, 5))))
        assert control.shape == (1, 96, 2, 6, 8)
        assert not control[:, 16:, 0].any()


class TestStrips:
    """Every setting."""

    @pytest.mark.parametrize("setting", ["frames.2", "strips.4", "strips.2"])
    def test_same_as_whole(self, program, video, picture, setting):
        """Video, mask and reference, one clip after another."""
        stage = program(
            video=video(FRAMES), mask=video(FRAMES, "mask", 6), reference_images=picture(1)
        )
        whole, _ = encode(stage)
        made, _ = encode(stage, setting)
        assert (whole - made).abs().max() <= 1e-5 * whole.abs().max()

    def test_plans_without_files(self, program):
        """The profiler reads none, and what it makes of a later clip has that clip's name."""
        stage = program(video="no.mp4", mask="nor.mp4", reference_images="this.png,that.png")
        for setting in ("whole", "strips.2"):
            calls = Profiler("cpu").profile(
                (stage,), {"told": {"strips": setting}}, lambda _name: True
            ).calls  # fmt: skip
            made = [value.name for call in calls for value in call.makes]
            latents = [name for name in made if name.startswith("told.latents@")]
            assert latents == [
                f"told.latents@{n}" for n in ("kept", "anew", "reference0", "reference1")
            ]
            assert made[-1] == "told.control"
