"""Files that inputs name: told what is wrong before anything runs, and known again."""

import av
import numpy as np
import pytest
from PIL import Image

from wanflow.errors import InputError
from wanflow.graph.values import ValueType
from wanflow.session.preparing.input_files import check_file, content


@pytest.fixture
def picture(tmp_path):
    """A small picture."""
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)
    return path


class TestCheckFile:
    """One file of an input."""

    def test_a_picture(self, picture):
        """Nothing to tell."""
        check_file("image", ValueType.IMAGE, picture)

    @pytest.mark.parametrize(
        ("kind", "name", "code"),
        [
            (ValueType.IMAGE, "none.png", "missing-file"),
            (ValueType.IMAGE, ".", "missing-file"),
            (ValueType.IMAGE, "text", "bad-image"),
            (ValueType.IMAGE, "half.png", "bad-image"),
            (ValueType.VIDEO, "text", "bad-video"),
            (ValueType.VIDEO, "sound.wav", "bad-video"),
        ],
    )
    def test_what_is_none(self, picture, tmp_path, kind, name, code):
        """Told with the input and the path."""
        (tmp_path / "text").write_text("text")
        (tmp_path / "half.png").write_bytes(picture.read_bytes()[:-20])
        with av.open(str(tmp_path / "sound.wav"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 80), np.int16), layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
        with pytest.raises(InputError, match="input 'image'") as raised:
            check_file("image", kind, tmp_path / name)
        assert raised.value.code == code


class TestContent:
    """The hash by which a run that goes on knows its pictures."""

    def test_changes_with_a_byte(self, picture):
        """And not with the name."""
        first = content(picture)
        moved = picture.rename(picture.with_name("b.png"))
        assert content(moved) == first
        moved.write_bytes(moved.read_bytes() + b"x")
        assert content(moved) != first
