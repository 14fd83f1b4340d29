"""The video file: colours, rates, what it says of itself, the same bytes for the same frames."""

import ctypes
import json
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.bitstream import BitStreamFilterContext

from wanflow.errors import StageFailed
from wanflow.graph import PortRef
from wanflow.session import Request, run
from wanflow.stages.video_file import VideoFile, frame_rate

RECIPE = {"graph": "t2v-tiny", "inputs": {"prompt": '红色 "kite" 🪁 \\ ;=#\n<b>'}, "seed": 7}
FRAMES = {"frames": PortRef("decode", "frames")}
M_PERTURB = -6  # of glibc's mallopt: fill every allocation with a byte
LIMITED, BT709 = 1, 1  # as ITU-T H.273 numbers them
RATES = {
    16.0: 16, 8.0: 8, 12.5: Fraction(25, 2), 23.97: Fraction(2397, 100), 24.0: 24,
    14.985: Fraction(2997, 200), 12.345678: Fraction(6172839, 500000), 1.0: 1, 240.0: 240, 30.0: 30,
    23.976: Fraction(24000, 1001), 23.98: Fraction(24000, 1001), 29.97: Fraction(30000, 1001),
    59.94: Fraction(60000, 1001), 47.952: Fraction(48000, 1001), 119.88: Fraction(120000, 1001),
    30000 / 1001: Fraction(30000, 1001), 29.9701: Fraction(299701, 10000),
}  # fmt: skip
COLOURS = [
    (215, 30, 36), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255),
    (255, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 150, 120), (30, 90, 60),
]  # fmt: skip


@pytest.fixture
def write(program, drive, feed, tmp_path):
    """Write the clip to a folder and give the file."""

    def run(folder="out", recipe=RECIPE, **params):
        out = tmp_path / folder
        made = program("write_video", FRAMES, params=params, out=out, recipe=recipe)
        drive(made, {}, feed=feed)
        return out / "video.mp4"

    return run


def test_no_encoder_is_told_before_the_run(monkeypatch, tmp_path):
    """Not after an hour, at the first frame; a graph that writes pictures doesn't ask for it."""
    monkeypatch.setitem(sys.modules, "av.video.reformatter", None)
    small = {"prompt": "x", "size": "32*32", "frames": 1, "steps": 1}
    request = Request("t2v-tiny", small, device="cpu", probe=False)

    with pytest.raises(StageFailed, match="PyAV doesn't load") as told:
        run(request, out=tmp_path / "run")
    assert told.value.code == "no-encoder"
    assert not (tmp_path / "run").exists()


def encoded(path, frames, fps=Fraction(16)):
    """Put frames into a file without a program."""
    video = VideoFile(path, fps, None)
    video.write(frames)
    video.finish()
    video.close()
    return path


def boxes(data):
    """The kinds of the boxes of an mp4, in order, with what is in each."""
    made, offset = [], 0
    while offset < len(data):
        length, kind = (
            int.from_bytes(data[offset : offset + 4], "big"),
            data[offset + 4 : offset + 8],
        )
        made.append((kind.decode("ascii"), data[offset + 8 : offset + length]))
        offset += length
    return made


def header(path):
    """What the stream's own header says, as FFmpeg's filter that reads it names each field."""
    av.logging.set_level(av.logging.TRACE)
    try:
        with av.open(path) as video, av.logging.Capture() as said:
            BitStreamFilterContext("trace_headers", video.streams.video[0])
    finally:
        av.logging.set_level(None)
    lines = [line.split() for _, _, line in said]
    return {words[1]: int(words[-1]) for words in lines if len(words) == 5}


class TestFile:
    """What is written can be played."""

    @pytest.mark.parametrize("fps", RATES)
    def test_playable(self, write, fps):
        """Nine frames of 64x32 at the asked rate, as long as they last, as every player reads."""
        with av.open(write(fps=fps)) as video:
            stream = video.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
            assert stream.average_rate == stream.guessed_rate == RATES[fps]
            assert video.duration == pytest.approx(float(9 / RATES[fps]) * 1e6, abs=1)
            assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert len(frames) == 9
        assert {frame.shape for frame in frames} == {(32, 64, 3)}

    @pytest.mark.parametrize("fps", [1, 29.97])
    def test_one_frame(self, tmp_path, fps):
        """A single frame lasts as long as any."""
        one = np.zeros((1, 16, 16, 3), np.uint8)
        with av.open(encoded(tmp_path / "one.mp4", one, frame_rate(fps))) as video:
            assert video.duration == pytest.approx(float(1 / frame_rate(fps)) * 1e6, abs=1)

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
        with av.open(write()) as video:
            assert json.loads(video.metadata["comment"]) == RECIPE

    def test_without_recipe(self, write):
        """No comment at all."""
        with av.open(write(recipe=None)) as video:
            assert "comment" not in video.metadata

    def test_index_in_front(self, write):
        """A player that loads it may begin before it has all of it."""
        assert [kind for kind, _ in boxes(write().read_bytes())] == ["ftyp", "moov", "free", "mdat"]


class TestColours:
    """BT.709 numbers, and tags that say so, whatever the size."""

    @pytest.mark.parametrize("size", [(32, 64), (480, 832), (720, 1280), (16, 1280)])
    def test_tags(self, tmp_path, size):
        """In the stream's own header, on a frame, and in the container."""
        path = encoded(tmp_path / "v.mp4", np.zeros((1, *size, 3), np.uint8))
        with av.open(path) as video:
            codec = video.streams.video[0].codec_context
            first = next(video.decode(video=0))
            for tagged in (codec, first):
                tags = (tagged.colorspace, tagged.color_primaries, tagged.color_trc)
                assert (*tags, tagged.color_range) == (BT709, BT709, BT709, LIMITED)
        ((_, index),) = [box for box in boxes(path.read_bytes()) if box[0] == "moov"]
        assert index.count(b"colrnclx" + bytes([0, 1, 0, 1, 0, 1, 0])) == 1

    @pytest.mark.parametrize("size", [(32, 64), (720, 1280)])
    def test_numbers(self, tmp_path, size):
        """Of a plain frame, worked out from the standard: no more than rounding and the codec."""
        for red, green, blue in COLOURS:
            frame = np.full((1, *size, 3), (red, green, blue), np.uint8)
            with av.open(encoded(tmp_path / "v.mp4", frame)) as video:
                picture = next(video.decode(video=0)).to_ndarray(format="yuv420p")
            luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
            expected = [
                16 + 219 / 255 * luma,
                128 + 224 / 255 * (blue - luma) / 1.8556,
                128 + 224 / 255 * (red - luma) / 1.5748,
            ]
            quarter = size[0] // 4
            planes = np.split(picture, [size[0], size[0] + quarter])
            assert [plane.mean() for plane in planes] == pytest.approx(expected, abs=1)

    @pytest.mark.parametrize("size", [(32, 64), (720, 1280)])
    def test_as_the_picture(self, tmp_path, size):
        """Decoded by the tags, a frame has the colours that a PNG of it has."""
        for colour in COLOURS:
            frame = np.full((1, *size, 3), colour, np.uint8)
            with av.open(encoded(tmp_path / "v.mp4", frame)) as video:
                shown = next(video.decode(video=0)).to_ndarray(format="rgb24")
            assert np.abs(shown.astype(int) - frame[0]).max() <= 3

    def test_where_the_colours_lie(self, tmp_path):
        """A sample of colour is of the middle of its four pixels, and the stream says so."""
        wide = np.zeros((1, 64, 128, 3), np.uint8)
        wide[..., 2] = np.arange(128)
        tall = wide.transpose(0, 2, 1, 3)
        for frames, axis in ((wide, 1), (tall, 0)):
            height, width = frames.shape[1:3]
            with av.open(encoded(tmp_path / "v.mp4", frames)) as video:
                planes = next(video.decode(video=0)).to_ndarray(format="yuv420p").reshape(-1)
            start = height * width
            blue = planes[start : start + start // 4].reshape(height // 2, width // 2)
            line = blue.mean(1 - axis)[8:-8]
            step = 224 / 255 * (1 - 0.0722) / 1.8556  # of the number, a pixel
            offset = (line - 128) / step - 2 * np.arange(8, len(line) + 8)
            assert offset.mean() == pytest.approx(0.5, abs=0.25)
        assert header(tmp_path / "v.mp4")["chroma_sample_loc_type_top_field"] == 1


class TestRepeats:
    """The same frames make the same bytes."""

    def test_repeats(self, write):
        """Of two runs."""
        assert write("first").read_bytes() == write("second").read_bytes()

    def test_differs(self, write):
        """Another rate makes another file."""
        assert write("first", fps=8.0).read_bytes() != write("second", fps=16.0).read_bytes()

    @pytest.mark.parametrize("side", [32, 64])
    def test_repeats_in_used_memory(self, tmp_path, side):
        """Whatever the encoder's memory held before."""
        perturb = getattr(ctypes.CDLL(None), "mallopt", None)
        if perturb is None:
            pytest.skip("this C library can't fill what it hands out")
        ramp = np.linspace(0, 230, side)[:, None] + np.linspace(0, 25, side)
        moved = [np.roll(ramp, 3 * n, 1) + np.roll(ramp, -n, 0) for n in range(9)]
        frames = np.stack(moved)[..., None].repeat(3, 3).astype(np.uint8)
        files = set()
        for fill in (0, 1, 85, 170):
            perturb(M_PERTURB, fill)
            try:
                files.add(encoded(tmp_path / "video.mp4", frames, Fraction(8)).read_bytes())
            finally:
                perturb(M_PERTURB, 0)
        assert len(files) == 1
