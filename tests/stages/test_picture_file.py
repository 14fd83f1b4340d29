"""One frame becomes one PNG file, whole or not at all, rounded as Wan's own code does."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from wanflow.graph import PortRef
from wanflow.stages.frames import to_bytes

FRAMES = {"frames": PortRef("decode", "frames")}
RECIPE = {"inputs": {"prompt": "日 circle"}}
# Halves between two levels, exact in fp32.
LEVELS = [0.0, 0.5, 1.5, 2.5, 254.5, 255.0]


@pytest.fixture
def write(program, drive, tmp_path):
    """Write a frame; *calls* stops after so many calls."""

    def run(frame, calls=None, **around):
        made = program("write_picture", FRAMES, out=tmp_path, frames=1, **around)
        drive(made, {}, feed=lambda _call: {"decode.frames": frame}, calls=calls)
        return tmp_path / "picture.png"

    return run


class TestRounding:
    """`torchvision.utils.save_image`: v * 255 + 0.5, cut off."""

    def test_halves_go_up(self) -> None:
        """Of a video they go to the even level, as diffusers has it."""
        frame = (torch.tensor(LEVELS) / 255).reshape(1, 1, 1, -1).expand(1, 3, 1, -1)
        assert (frame * 255).flatten()[:6].tolist() == LEVELS
        assert to_bytes(frame, picture=True)[0, 0, :, 0].tolist() == [0, 1, 2, 3, 255, 255]
        assert to_bytes(frame)[0, 0, :, 0].tolist() == [0, 0, 2, 2, 254, 255]

    def test_bytes_stay(self) -> None:
        """What is rounded already is written as it is."""
        frame = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4)
        assert torch.equal(to_bytes(frame, picture=True), to_bytes(frame))


class TestFile:
    """An ordinary PNG with the recipe in it."""

    def test_pixels(self, write) -> None:
        """8 bits, RGB, as rounded."""
        frame = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
        with Image.open(write(frame)) as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGB")
            assert np.array_equal(np.asarray(picture), to_bytes(frame, picture=True)[0].numpy())

    @pytest.mark.parametrize("recipe", [RECIPE, None])
    def test_recipe(self, write, recipe) -> None:
        """In a text chunk, in any script; left out it leaves no trace."""
        with Image.open(write(torch.rand(1, 3, 32, 64), recipe=recipe)) as picture:
            wanted = {} if recipe is None else {"Comment": json.dumps(recipe, ensure_ascii=False)}
            assert picture.info == wanted

    @pytest.mark.parametrize("calls", [0, 1, 2])
    def test_closed_early(self, write, tmp_path, calls) -> None:
        """A run that stops leaves nothing, or what an earlier one wrote."""
        assert not write(torch.rand(1, 3, 32, 64), calls=calls).exists()
        before = write(torch.rand(1, 3, 32, 64)).read_bytes()
        assert write(torch.rand(1, 3, 32, 64), calls=calls).read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
