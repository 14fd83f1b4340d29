"""Videos as people have them: turned and coloured as they are meant, or refused by name."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from tests.filmed import film
from wanflow.errors import InputError
from wanflow.files.videos import open_video

RED, BLUE, FLESH = (255, 0, 0), (0, 0, 255), (200, 40, 60)
HDR10 = 16  # its transfer characteristic


def corner(width=96, height=64) -> np.ndarray:
    """A blue frame whose upper left is red."""
    frame = np.full((height, width, 3), BLUE, np.uint8)
    frame[: height // 2, : width // 2] = RED
    return frame


@pytest.fixture
def filmed(tmp_path):
    """Write a video of one frame again and again; its path."""

    def write(name="a.mp4", pixels=None, count=6, *, codec="libx264", matrix=None, turn=None,
              made=Colorspace.ITU601, tags=None, full=False, front=False) -> Path:  # fmt: skip
        path, pixels = tmp_path / name, corner() if pixels is None else pixels
        options = {"movflags": "faststart"} if front else {}
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream(codec, rate=8)
            stream.height, stream.width = pixels.shape[:2]
            stream.pix_fmt = "yuv420p"
            if turn is not None:
                stream.set_display_rotation(turn)
            if matrix is not None:
                stream.set_display_matrix(matrix)
            for tag, value in (tags or {}).items():
                setattr(stream.codec_context, tag, value)
            for _ in range(count):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                target = ColorRange.JPEG if full else ColorRange.MPEG
                frame = frame.reformat(
                    format="yuv420p", dst_colorspace=made, dst_color_range=target
                )
                frame.pict_type = 0
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


def first(path: Path) -> Image.Image:
    """The first frame as it is shown."""
    return next(open_video(path).frames())


def close(seen, wanted, by: int) -> bool:
    """Whether two colours look alike."""
    return all(abs(a - b) <= by for a, b in zip(seen, wanted, strict=True))


class TestTurned:
    """The display matrix says how the camera was held."""

    @pytest.mark.parametrize(
        ("turn", "size", "at"),
        [(0, (96, 64), (20, 12)), (90, (64, 96), (12, 75)), (180, (96, 64), (75, 50)),
         (270, (64, 96), (50, 20))],
    )  # fmt: skip
    def test_by_quarters(self, filmed, turn, size, at) -> None:
        """Counter-clockwise: red goes from the upper left to the lower left first."""
        image = first(filmed(turn=turn))
        assert image.size == size
        assert close(image.getpixel(at), RED, 40)
        far = (size[0] - 1 - at[0], size[1] - 1 - at[1])
        assert close(image.getpixel(far), BLUE, 40)

    @pytest.mark.parametrize(
        ("matrix", "at"), [((-1, 0, 0, 1), (75, 12)), ((1, 0, 0, -1), (20, 50))]
    )
    def test_mirrored(self, filmed, matrix, at) -> None:
        """As a phone's front camera does."""
        a, b, c, d = (65536 * value for value in matrix)
        image = first(filmed(matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30)))
        assert close(image.getpixel(at), RED, 40)


class TestColours:
    """The same numbers are other colours under other tags."""

    @pytest.mark.parametrize(
        ("made", "tags"),
        [(Colorspace.ITU709, {"colorspace": 1, "color_range": 1}),
         (Colorspace.ITU601, {"colorspace": 6, "color_range": 1}),
         (Colorspace.ITU601, {"colorspace": 5, "color_range": 1}),
         (Colorspace.ITU709, {"colorspace": 1, "color_range": 2}),
         (Colorspace.ITU601, {})],
    )  # fmt: skip
    def test_are_those_of_the_tags(self, filmed, made, tags) -> None:
        """BT.709 and BT.601, full range and limited; small ones without tags are BT.601."""
        pixels = np.full((64, 96, 3), FLESH, np.uint8)
        path = filmed(pixels=pixels, made=made, tags=tags, full=tags.get("color_range") == 2)
        assert close(first(path).getpixel((40, 30)), FLESH, 5)

    def test_untold_of_a_large_one(self, filmed) -> None:
        """From 1280 columns on it is BT.709, as in players."""
        pixels = np.full((720, 1280, 3), FLESH, np.uint8)
        path = filmed(pixels=pixels, count=1, made=Colorspace.ITU709)
        assert close(first(path).getpixel((40, 30)), FLESH, 5)

    def test_hdr_is_refused(self, filmed) -> None:
        """Its colours would be pale."""
        with pytest.raises(InputError, match=r"HDR \(PQ\)"):
            open_video(filmed(tags={"color_trc": HDR10}))


class TestTimes:
    """Which frame is which, whatever the file calls its time."""

    @pytest.mark.parametrize(
        ("name", "codec"),
        [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "libx264"), ("a.ts", "libx264"),
         ("a.avi", "mpeg4"), ("a.webm", "libvpx"), ("a.gif", "gif")],
    )  # fmt: skip
    def test_by_number(self, tmp_path, name, codec) -> None:
        """Frames are brighter and brighter; some are taken twice, most are passed over."""
        path = film(tmp_path / name, 40, (96, 64), 25, codec=codec)
        video = open_video(Path(path))
        shown = [int(np.asarray(frame).mean()) for frame in video.frames([0, 3, 3, 20, 39])]
        assert (video.size, video.times.count) == ((96, 64), 40)
        assert shown[1] == shown[2]
        assert [abs(a - b) <= 4 for a, b in zip(shown, [15, 32, 32, 127, 233], strict=True)] == [
            True
        ] * 5

    def test_uneven(self, tmp_path) -> None:
        """By the time stamps: half of the frames are there for a tenth of the time."""
        path = film(tmp_path / "a.mkv", 39, (96, 64), lasts=(20, 180))
        assert open_video(Path(path)).times.taken(5) == [0, 9, 19, 29, 38]

    def test_long(self, tmp_path) -> None:
        """Thousands of frames are counted by their packets."""
        path = film(tmp_path / "a.mkv", 5000, (16, 16), codec="mpeg4")
        assert open_video(Path(path)).times.count == 5000


class TestRefused:
    """What is none, or not whole."""

    def test_damaged_inside(self, filmed) -> None:
        """It can be opened; the frame is told where it is read."""
        path = filmed(
            count=60, pixels=np.random.default_rng(1).integers(0, 255, (64, 96, 3), np.uint8)
        )
        content = bytearray(path.read_bytes())
        middle = slice(len(content) // 4, len(content) // 4 + 300)
        content[middle] = bytes(byte ^ 0xFF for byte in content[middle])
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"cut or damaged: frame \d+") as caught:
            list(open_video(path).frames())
        assert caught.value.exit_code == 2

    def test_sound_alone(self, tmp_path) -> None:
        """Nothing to be seen."""
        sound = tmp_path / "a.mka"
        with av.open(str(sound), "w", format="matroska") as container:
            stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            beat = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
            beat.sample_rate = 8000
            container.mux(stream.encode(beat))
        with pytest.raises(InputError, match="has no pictures"):
            open_video(sound)

    @pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "front.mp4", "a.avi"])
    @pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
    def test_cut(self, filmed, tmp_path, name, share) -> None:
        """A broken download, the index in front or behind."""
        path = filmed(name, count=40, front=name.startswith("front"))
        assert len(list(open_video(path).frames())) == 40
        half = tmp_path / ("cut" + path.suffix)
        half.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(InputError, match="cut or damaged") as caught:
            open_video(half, "input 'video': ")
        assert (caught.value.code, caught.value.exit_code) == ("bad-video", 2)
        assert caught.value.message.startswith("input 'video': /")

    def test_a_picture(self, tmp_path) -> None:
        """FFmpeg would take it for a video of one frame."""
        Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match="is a picture, no video"):
            open_video(tmp_path / "a.png")

    def test_a_web_page(self, tmp_path) -> None:
        """A download that was none."""
        (tmp_path / "a.mp4").write_text("<!doctype html><p>Sign in</p>")
        with pytest.raises(InputError, match="it is a web page"):
            open_video(tmp_path / "a.mp4")

    def test_a_codec_that_nobody_knows(self, filmed) -> None:
        """FFmpeg opens the file, and says nothing of its pictures, not even their size."""
        path = filmed("a.mkv")
        content = path.read_bytes()
        assert b"V_MPEG4/ISO/AVC" in content
        path.write_bytes(content.replace(b"V_MPEG4/ISO/AVC", b"V_WANFLOW/UNKNO"))
        with pytest.raises(InputError, match="of a codec that FFmpeg doesn't know") as caught:
            open_video(path)
        assert (caught.value.code, caught.value.exit_code) == ("bad-video", 2)

    def test_changed_after_the_check(self, filmed) -> None:
        """It is told, since a video is not held in memory."""
        video = open_video(path := filmed())
        os.utime(path, ns=(1, 1))
        with pytest.raises(InputError, match="was changed since it was checked"):
            next(video.frames())
