"""The files of a preview."""

import numpy as np
import pytest
from PIL import Image

from wanflow.files.preview_files import CLIP, GAP, STRIP, read_strip, write_preview


def frames(count, height, width):
    """Make frames of one colour each."""
    levels = np.arange(1, count + 1, dtype=np.uint8) * 20
    shape = (count, height, width, 3)
    return np.broadcast_to(levels[:, None, None, None], shape).copy()


class TestStrip:
    @pytest.mark.parametrize(("size", "shown"), [((60, 104), (60, 104)), ((4, 8), (64, 128))])
    def test_is_cut_into_its_frames(self, tmp_path, size, shown):
        """Small ones are shown larger; colours are kept to the bit."""
        write_preview(tmp_path, frames(3, *size), 250)
        found = read_strip(tmp_path / STRIP, 3)
        assert [frame.size[::-1] for frame in found] == [shown] * 3
        assert [frame.getextrema()[0] for frame in found] == [(20, 20), (40, 40), (60, 60)]

    def test_another_count_is_refused(self, tmp_path):
        """A file of another run is not taken for this one."""
        write_preview(tmp_path, frames(3, 64, 64), 250)
        with pytest.raises(ValueError, match=f"{3 * 64 + 2 * GAP} pixels are no 4 frames"):
            read_strip(tmp_path / STRIP, 4)

    def test_one_frame(self, tmp_path):
        """Of a picture."""
        write_preview(tmp_path, frames(1, 64, 96), 250)
        assert read_strip(tmp_path / STRIP, 1)[0].size == (96, 64)
        with Image.open(tmp_path / CLIP) as clip:
            assert clip.n_frames == 1


def test_animation(tmp_path):
    """As long as the clip is, again and again."""
    write_preview(tmp_path, frames(5, 60, 104), 125)
    with Image.open(tmp_path / CLIP) as clip:
        assert (clip.n_frames, clip.size, clip.info["loop"]) == (5, (104, 60), 0)
        durations = []
        for number in range(5):
            clip.seek(number)
            clip.load()
            durations.append(clip.info["duration"])
    assert durations == [125] * 5


def test_a_file_that_can_not_be_replaced_stays(tmp_path):
    """What was there is whole, and nothing is left beside it."""
    write_preview(tmp_path, frames(2, 64, 64), 250)
    before = (tmp_path / STRIP).read_bytes()
    with pytest.raises(ValueError, match="not enough values"):
        write_preview(tmp_path, frames(2, 64, 64)[0], 250)
    assert (tmp_path / STRIP).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {STRIP, CLIP}
