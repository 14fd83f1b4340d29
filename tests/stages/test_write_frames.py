"""Numbered PNG files in a folder that appears when it is whole."""

import numpy as np
import pytest
import torch
from PIL import Image

from wanflow.graph import PortRef
from wanflow.stages.frames import to_bytes

FRAMES = {"frames": PortRef("decode", "frames")}
NAMES = [f"{number:05d}.png" for number in range(9)]


@pytest.fixture
def write(program, drive, feed, tmp_path):
    """Write the clip; *calls* stops after so many calls."""

    def run(calls=None, **params):
        made = program("write_frames", FRAMES, params=params, out=tmp_path)
        drive(made, {}, feed=feed, calls=calls)
        return tmp_path

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestFiles:
    """Every frame is a file with its number."""

    def test_names(self, write):
        """Numbers start at 00000 and have no gap across chunks."""
        assert names(write() / "frames") == NAMES

    def test_pixels(self, write, clip):
        """A file has the pixels of the 8-bit frame, in order."""
        folder = write() / "frames"
        found = np.stack([np.asarray(Image.open(folder / name)) for name in NAMES])
        assert np.array_equal(found, to_bytes(torch.cat(clip)).numpy())

    def test_folder_name(self, write):
        """The folder has the name that the stage was given."""
        assert names(write(name="stills")) == ["stills"]


class TestWhole:
    """The folder is there as a whole or not at all."""

    @pytest.fixture
    def earlier(self, tmp_path):
        """A folder of an earlier, longer run."""
        folder = tmp_path / "frames"
        folder.mkdir()
        (folder / "00099.png").write_bytes(b"earlier")
        return folder

    @pytest.mark.parametrize("calls", [0, 1, 2, 3, 6])
    def test_closed_early(self, write, calls):
        """A run that stops leaves nothing."""
        assert names(write(calls=calls)) == []

    @pytest.mark.parametrize("calls", [0, 2, 6])
    def test_earlier_stays(self, write, earlier, calls):
        """A run that stops leaves an earlier folder as it was."""
        assert names(write(calls=calls)) == ["frames"]
        assert names(earlier) == ["00099.png"]

    def test_replaced_as_a_whole(self, write, earlier):
        """No frame of a longer, earlier run stays among the new ones."""
        write()
        assert names(earlier) == NAMES

    def test_leftover_part(self, write, tmp_path):
        """The part folder of a killed run doesn't get into the result."""
        part = tmp_path / "frames.part"
        part.mkdir()
        (part / "00099.png").touch()
        assert names(write() / "frames") == NAMES
        assert not part.exists()
