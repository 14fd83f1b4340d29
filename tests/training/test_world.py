"""The small world: scenes, their captions, their drawings."""

import itertools

import numpy as np
import pytest

from scripts.train_tiny.captions import caption
from scripts.train_tiny.drawing import draw, draw_path
from scripts.train_tiny.world import (
    BACKGROUNDS,
    FRAMES,
    MOTIONS,
    SIDE,
    combinations,
    draw_scene,
    held_out,
)


def scenes(count, *, held=False, pairs=0.3):
    random = np.random.default_rng(4)
    return [draw_scene(random, held=held, pairs=pairs) for _ in range(count)]


class TestScenes:
    def test_held_out_ones_are_some_of_each_motion(self):
        """Every motion has combinations that are held out, and many more that are not."""
        every = list(combinations())
        for motion in MOTIONS:
            held = [held_out(s) for s in every if s.motion == motion]
            assert 0 < sum(held) < len(held) / 3

    @pytest.mark.parametrize("held", [False, True])
    def test_a_draw_is_held_out_or_not_as_asked(self, held):
        """Training asks for the one, the report for the other."""
        assert {held} == {held_out(scene) for scene in scenes(200, held=held)}

    def test_colours_of_a_scene_differ(self):
        """No shape is lost on its background or beside another of its colour."""
        for scene in scenes(200):
            names = [scene.background, *(thing.colour for thing in scene.things)]
            assert len(names) == len(set(names))


class TestDrawing:
    def test_a_seed_draws_the_same_clip(self):
        """The pool can be drawn again."""
        scene = scenes(1)[0]
        first, second = (draw(np.random.default_rng(3), scene) for _ in range(2))
        assert first.shape == (FRAMES, SIDE, SIDE, 3)
        assert (first == second).all()

    def test_no_shape_touches_the_edge(self):
        """Shapes are whole in every frame: at most a corner's soft fringe is on the border."""
        random = np.random.default_rng(5)
        for scene in scenes(150):
            clip = draw(random, scene)
            plain = np.float32(BACKGROUNDS[scene.background])
            for border in (clip[:, 0], clip[:, -1], clip[:, :, 0], clip[:, :, -1]):
                assert np.abs(border - plain).max() < 32

    def test_a_moving_shape_goes_far_enough(self):
        """No motion is so small that it could be taken for standing still."""
        random = np.random.default_rng(6)
        for scene in (s for s in scenes(300) if s.motion in MOTIONS[:5]):
            path = draw_path(random, scene, 0)
            way = max(abs(path.x[-1] - path.x[0]), abs(path.y[-1] - path.y[0]))
            assert way > (6.5 if len(scene.things) == 2 else 19)


class TestCaptions:
    @pytest.mark.parametrize("language", ["en", "zh"])
    def test_scenes_that_differ_have_captions_that_differ(self, language):
        """What a caption says is enough to tell background, motion, shapes and colours."""
        random, told = np.random.default_rng(7), {}
        for scene in itertools.islice(combinations(), 0, None, 7):
            thing = scene.things[0]
            what = (thing.shape, thing.colour, scene.background, scene.motion)
            for _ in range(4):
                assert what == told.setdefault(caption(random, scene, language), what)
