"""Files that inputs name: told what is wrong before anything runs, and known again."""

import os
from pathlib import Path

import attrs
import av
import numpy as np
import pytest
from PIL import Image

from wanflow.errors import InputError
from wanflow.files.pictures import read_picture
from wanflow.graph import load
from wanflow.graph.values import ValueType
from wanflow.session import Request, plan, run
from wanflow.session.preparing.input_files import content, open_file, open_files
from wanflow.session.preparing.shapes import in_shape

GRAPHS = Path(__file__).resolve().parents[3] / "graphs"


@pytest.fixture
def picture(tmp_path):
    """A small picture."""
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)
    return path


class TestOpenFile:
    """One file of an input."""

    def test_a_picture(self, picture):
        """Nothing to tell."""
        assert open_file("image", ValueType.IMAGE, picture).size == (6, 4)

    @pytest.mark.parametrize(
        ("kind", "name", "code"),
        [
            (ValueType.IMAGE, "none.png", "missing-file"),
            (ValueType.IMAGE, ".", "missing-file"),
            (ValueType.IMAGE, "pipe", "missing-file"),
            (ValueType.IMAGE, "sound.wav", "bad-image"),
            (ValueType.VIDEO, "none.mp4", "missing-file"),
            (ValueType.VIDEO, ".", "missing-file"),
            (ValueType.VIDEO, "a.png", "bad-video"),
            (ValueType.IMAGE, "text", "bad-image"),
            (ValueType.IMAGE, "half.png", "bad-image"),
            (ValueType.VIDEO, "text", "bad-video"),
            (ValueType.VIDEO, "sound.wav", "bad-video"),
        ],
    )
    def test_what_is_none(self, picture, tmp_path, kind, name, code):
        """Told with the input and the path."""
        (tmp_path / "text").write_text("text")
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "half.png").write_bytes(picture.read_bytes()[:-20])
        with av.open(str(tmp_path / "sound.wav"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 80), np.int16), layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
        with pytest.raises(InputError, match="input 'image'") as raised:
            open_file("image", kind, tmp_path / name)
        assert raised.value.code == code


class TestContent:
    """The hash by which a run that goes on knows its pictures."""

    def test_changes_with_a_byte(self, picture):
        """And not with the name; of a picture it is that of the bytes that were read."""
        first = content(None, picture)
        assert content(read_picture(picture), picture) == first
        moved = picture.rename(picture.with_name("b.png"))
        assert content(None, moved) == first
        moved.write_bytes(moved.read_bytes() + b"x")
        assert content(None, moved) != first


def request(path: Path, **inputs) -> Request:
    """A small job that starts from a picture."""
    given = {"prompt": "x", "frames": 1, "steps": 1, "image": str(path)}
    return Request("i2v-tiny", given | inputs, device="cpu", vram="64MiB")


class TestJob:
    """What a whole job says of its picture."""

    def test_a_cut_picture_is_told_first(self, tmp_path):
        """By the plan too; a run leaves no folder."""
        whole, half = tmp_path / "a.jpg", tmp_path / "half.jpg"
        pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(whole)
        half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        for act in (plan, lambda job: run(job, out=tmp_path / "run")):
            with pytest.raises(InputError, match=r"input 'image': .*half\.jpg: cut or damaged"):
                act(request(half))
        assert not (tmp_path / "run").exists()

    def test_notes_are_in_plan_and_run(self, tmp_path):
        """With the input that they are of."""
        Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "a.png")
        said = ["image: what is transparent in it is white"]
        assert plan(request(tmp_path / "a.png")).report["notes"] == said
        report = run(request(tmp_path / "a.png"), out=tmp_path / "run")
        assert report["notes"] == said

    def test_a_picture_that_is_replaced_later(self, tmp_path):
        """The run goes on with what was checked."""
        path = tmp_path / "a.png"
        Image.new("RGB", (64, 64), (200, 30, 30)).save(path)
        pixels = []

        def watch(stage, name, tensor):
            if stage == "encode":
                path.unlink(missing_ok=True)
            if name.startswith("given.pixels"):
                pixels.append(tensor[:, 0, 0, 0].tolist())

        job = attrs.evolve(request(path), pins=("given.strips=whole",))
        run(job, out=tmp_path / "run", watch=watch)
        assert not path.exists()
        assert pixels == [[200, 30, 30]]

    def test_a_turned_picture_gives_its_upright_shape(self, tmp_path):
        """To a size that is `like` it."""
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (160, 80)).save(tmp_path / "a.jpg", exif=exif)
        checked, inputs = load("i2v-14b-480p"), {"image": str(tmp_path / "a.jpg")}
        files = open_files(checked, inputs, to_run=False)
        size = in_shape(checked, inputs, None, files)["size"]
        assert size.height > 1.9 * size.width

    def test_a_video_is_looked_through_first(self, tmp_path):
        """Too short or cut is told by the plan; a turned one is encoded upright."""
        text = (GRAPHS / "i2v-tiny.yaml").read_text()
        for old, new in (
            ("image: {type: image}", "video: {type: video}"),
            ("image: $image, size: $size, frames: 1", "video: $video, size: $size, frames: 5"),
        ):
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "graph.yaml").write_text(text)
        film = tmp_path / "a.mp4"
        with av.open(str(film), "w") as container:
            stream = container.add_stream("libx264", rate=8)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            stream.set_display_rotation(90)
            pixels = np.zeros((64, 64, 3), np.uint8)
            pixels[:, :32] = 255  # the left side, which is then the lower one
            for _ in range(5):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
        inputs = {"prompt": "x", "frames": 5, "steps": 1, "video": str(film)}
        job = Request(
            str(tmp_path / "graph.yaml"), inputs, device="cpu", vram="64MiB",
            pins=("given.strips=whole",),
        )  # fmt: skip
        seen = []

        def watch(_stage, name, tensor):
            if name.startswith("given.pixels"):
                seen.append(tensor[0, 0, [8, 56], 32].tolist())

        run(job, out=tmp_path / "run", watch=watch)
        assert len(seen) == 2
        assert all(upper < 30 and lower > 225 for upper, lower in seen)
        (tmp_path / "graph.yaml").write_text(text.replace("frames: 5}", "frames: 9}"))
        with pytest.raises(InputError, match="has 5 frames, 9 are asked for"):
            plan(attrs.evolve(job, inputs=inputs | {"frames": 9}))
        film.write_bytes(film.read_bytes()[:600])
        with pytest.raises(InputError, match=r"input 'video': .*a\.mp4: cut or damaged"):
            plan(job)
