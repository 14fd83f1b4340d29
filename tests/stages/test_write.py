"""What is written is whole under its final name or not there: a video, or a folder of pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from wanflow.graph import PortRef
from wanflow.stages.frames import to_bytes

FRAMES = {"frames": PortRef("decode", "frames")}
NAMES = [f"{number:05d}.png" for number in range(9)]
PRODUCTS = {"write_video": "video.mp4", "write_frames": "frames"}


@pytest.fixture(params=PRODUCTS)
def op(request):
    return request.param


@pytest.fixture
def write(program, drive, feed, tmp_path):
    """Write the clip; *calls* stops after so many calls."""

    def run(op, calls=None, **params):
        made = program(op, FRAMES, params=params, out=tmp_path)
        drive(made, {}, feed=feed, calls=calls)
        return tmp_path

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def content(path):
    """The bytes of a file, or of each file in a folder."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return {file.name: file.read_bytes() for file in files}


class TestPictures:
    """Every frame is a file with its number."""

    def test_names(self, write):
        """Numbers start at 00000 and have no gap across chunks."""
        assert names(write("write_frames") / "frames") == NAMES

    def test_pixels(self, write, clip):
        """A file has the pixels of the 8-bit frame, in order, and no text."""
        folder = write("write_frames") / "frames"
        pictures = [Image.open(folder / name) for name in NAMES]
        shown = np.stack([np.asarray(picture) for picture in pictures])
        assert np.array_equal(shown, to_bytes(torch.cat(clip)).numpy())
        assert [picture.info for picture in pictures] == [{}] * 9


class TestWhole:
    """Half of anything never has the final name."""

    def test_name(self, write, op):
        """The product has the name that the stage was given."""
        assert names(write(op, name="kite.mp4")) == ["kite.mp4"]

    def test_until_the_end(self, program, feed, tmp_path, op):
        """Only the last call gives it its name."""
        values = {}
        for call in program(op, FRAMES, out=tmp_path).calls({}, None):
            assert not (tmp_path / PRODUCTS[op]).exists()
            values.update(feed(call))
            values.update(call.run({n: values[n] for n in call.reads}))
        assert names(tmp_path) == [PRODUCTS[op]]

    @pytest.mark.parametrize("calls", [0, 1, 2, 3, 6])
    def test_closed_early(self, write, op, calls):
        """A run that stops leaves nothing."""
        assert names(write(op, calls=calls)) == []

    def test_closed_with_a_part(self, program, tmp_path, op):
        """So doesn't one that is long enough for the encoder to have written some of it."""
        made = program(op, FRAMES, out=tmp_path, frames=133).calls({}, None)
        values = {"decode.frames": torch.rand(4, 3, 32, 64)}
        for call in made:
            if call.kind == "finish":
                break
            values.update(call.run(values))
        assert names(tmp_path) == [PRODUCTS[op] + ".part"]
        made.close()
        assert names(tmp_path) == []

    @pytest.mark.parametrize("calls", [0, 2, 6])
    def test_earlier_stays(self, write, tmp_path, op, calls):
        """A run that stops leaves what an earlier one wrote as it was."""
        before = content(write(op) / PRODUCTS[op])
        assert names(write(op, calls=calls)) == [PRODUCTS[op]]
        assert content(tmp_path / PRODUCTS[op]) == before

    def test_replaced_as_a_whole(self, write, op, tmp_path):
        """No frame of a longer, earlier run stays among the new ones."""
        write(op)
        expected = content(tmp_path / PRODUCTS[op])
        longer = tmp_path / PRODUCTS[op]
        if longer.is_dir():
            (longer / "00099.png").write_bytes(b"earlier")
        else:
            longer.write_bytes(b"earlier")
        assert content(write(op) / PRODUCTS[op]) == expected

    @pytest.mark.parametrize("is_folder", [True, False])
    @pytest.mark.parametrize("calls", [None, 2])
    def test_leftover_part(self, write, tmp_path, op, is_folder, calls):
        """What a killed run left, whatever it is, does not get into the product, nor stay."""
        part = tmp_path / f"{PRODUCTS[op]}.part"
        if is_folder:
            part.mkdir()
            (part / "00099.png").touch()
        else:
            part.write_bytes(b"earlier")
        write(op, calls=calls)
        assert names(tmp_path) == ([] if calls else [PRODUCTS[op]])
        if not calls and op == "write_frames":
            assert names(tmp_path / "frames") == NAMES

    def test_planning_touches_nothing(self, program, tmp_path, monkeypatch, op):
        """Stand-ins write no file; what lies in the working folder is left alone."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / f"{PRODUCTS[op]}.part").write_bytes(b"the user's")
        for call in program(op, FRAMES).calls({}, None):
            if call.stand_in is not None:
                assert call.stand_in({}) == {}
        assert names(tmp_path) == [f"{PRODUCTS[op]}.part"]
