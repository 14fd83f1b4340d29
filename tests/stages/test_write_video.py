"""The video: whole under its final name or not there, the same bytes for the same frames."""

import ctypes
import json
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from wanflow.graph import PortRef
from wanflow.stages import write_video

RECIPE = {"graph": "t2v-tiny", "inputs": {"prompt": '红色 "kite" 🪁 \\ ;=#\n<b>'}, "seed": 7}
FRAMES = {"frames": PortRef("decode", "frames")}
M_PERTURB = -6  # of glibc's mallopt: fill every allocation with a byte


@pytest.fixture
def write(program, drive, feed, tmp_path):
    """Write the clip to a folder; *calls* stops after so many calls."""

    def run(folder="out", calls=None, **params):
        out = tmp_path / folder
        made = program("write_video", FRAMES, params=params, out=out, recipe=RECIPE)
        drive(made, {}, feed=feed, calls=calls)
        return out

    return run


class TestFile:
    """What is written can be played."""

    @pytest.mark.parametrize(
        ("fps", "rate"), [(16.0, 16), (8.0, 8), (29.97, Fraction(2997, 100)), (12.5, 12.5)]
    )
    def test_playable(self, write, fps, rate):
        """Nine frames of 64x32 at the asked rate, in a form that every player reads."""
        with av.open(write(fps=fps) / "video.mp4") as video:
            stream = video.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
            assert stream.average_rate == rate
            assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert len(frames) == 9
        assert {frame.shape for frame in frames} == {(32, 64, 3)}

    def test_shows_the_frames(self, program, drive, tmp_path):
        """Frames come in order and look like what went in."""
        shades = torch.linspace(0.1, 0.9, 9)[:, None, None, None].expand(9, 3, 32, 64)
        chunks = [shades[:1], shades[1:5], shades[5:]]
        give = lambda call: {"decode.frames": chunks[min(call.chunk, 3) - 1]}  # noqa: E731
        drive(program("write_video", FRAMES, out=tmp_path), {}, feed=give)
        with av.open(tmp_path / "video.mp4") as video:
            seen = [f.to_ndarray(format="rgb24").mean() for f in video.decode(video=0)]
        assert seen == pytest.approx((shades[:, 0, 0, 0] * 255).tolist(), abs=2)

    def test_recipe(self, write):
        """The container's comment is the recipe, whatever its text holds."""
        with av.open(write() / "video.mp4") as video:
            assert json.loads(video.metadata["comment"]) == RECIPE

    def test_repeats(self, write):
        """The same frames make the same bytes."""
        first, second = (write(name) / "video.mp4" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()

    @pytest.mark.parametrize("side", [32, 64])
    def test_repeats_in_used_memory(self, tmp_path, side):
        """Whatever the encoder's memory held before."""
        perturb = getattr(ctypes.CDLL(None), "mallopt", None)
        if perturb is None:
            pytest.skip("this C library can't fill what it hands out")
        ramp = np.linspace(0, 230, side)[:, None] + np.linspace(0, 25, side)
        moved = [np.roll(ramp, 3 * n, 1) + np.roll(ramp, -n, 0) for n in range(9)]
        frames = np.stack(moved)[..., None].repeat(3, 3).astype(np.uint8)
        made = set()
        for fill in (0, 1, 85, 170):
            perturb(M_PERTURB, fill)
            try:
                encoder = write_video._Encoder(tmp_path / "part", Fraction(8), RECIPE)
                encoder.write(frames)
                encoder.finish(tmp_path / "video.mp4")
            finally:
                perturb(M_PERTURB, 0)
            made.add((tmp_path / "video.mp4").read_bytes())
        assert len(made) == 1

    def test_name(self, write):
        """The file has the name that the stage was given."""
        assert [p.name for p in write(name="kite.mp4").iterdir()] == ["kite.mp4"]


class TestPart:
    """Half a video never has the final name."""

    def test_until_the_end(self, program, feed, tmp_path):
        """Only the last call gives the file its name."""
        made = program("write_video", FRAMES, out=tmp_path).calls({}, None)
        values = {}
        for call in made:
            assert not (tmp_path / "video.mp4").exists()
            values.update(feed(call))
            values.update(call.run({n: values[n] for n in call.reads}))
        assert [p.name for p in tmp_path.iterdir()] == ["video.mp4"]

    @pytest.mark.parametrize("calls", [0, 1, 2, 3, 6])
    def test_removed_when_closed_early(self, write, calls):
        """A run that stops leaves no part file."""
        out = write(calls=calls)
        assert not out.exists() or not list(out.iterdir())

    def test_removed_when_it_is_there(self, program, tmp_path):
        """So doesn't one that is long enough for the encoder to have written some of it."""
        made = program("write_video", FRAMES, out=tmp_path, frames=133).calls({}, None)
        frames = {"decode.frames": torch.rand(4, 3, 32, 64)}
        values = {}
        for call in made:
            if call.kind == "finish":
                break
            values.update(call.run({**frames, **values}))
        assert [p.name for p in tmp_path.iterdir()] == ["video.mp4.part"]
        made.close()
        assert not list(tmp_path.iterdir())

    def test_earlier_video_stays(self, write):
        """A run that stops leaves the video of an earlier one alone."""
        video = write() / "video.mp4"
        before = video.read_bytes()
        write(calls=3)
        assert video.read_bytes() == before

    def test_replaces(self, write):
        """A run that ends replaces the video of an earlier one."""
        before = (write(fps=8.0) / "video.mp4").read_bytes()
        assert (write(fps=16.0) / "video.mp4").read_bytes() != before

    def test_planning_touches_nothing(self, program, tmp_path, monkeypatch):
        """Stand-ins write no file."""
        monkeypatch.chdir(tmp_path)
        for call in program("write_video", FRAMES).calls({}, None):
            if call.stand_in is not None:
                assert call.stand_in({}) == {}
        assert not list(tmp_path.iterdir())
