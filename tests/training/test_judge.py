"""The judge reads drawn clips without an error."""

import attrs
import numpy as np
import pytest

from scripts.train_tiny.drawing import draw
from scripts.train_tiny.evaluate import Case, cases, through_mp4, verdicts
from scripts.train_tiny.judge import Seen, Verdict, judge
from scripts.train_tiny.world import MOTIONS, SHAPES, Scene, Thing, draw_scene

RIGHT = {"background": True, "colour": True, "shape": True, "motion": True}


def truth(scene):
    things = tuple(Seen(thing.shape, thing.colour, scene.motion) for thing in scene.things)
    return Verdict(scene.background, things)


class TestDrawnClips:
    @pytest.mark.parametrize("seed", range(4))
    def test_every_clip_is_read_as_it_was_drawn(self, seed):
        """Of 100 clips with one or two shapes, all of them."""
        random = np.random.default_rng(seed)
        for turn in range(100):
            scene = draw_scene(random, held=bool(turn % 2), pairs=0.3)
            assert truth(scene) == judge(draw(random, scene)), scene

    def test_the_codec_changes_no_verdict(self, tmp_path):
        """The same after H.264 with its halved colours."""
        random = np.random.default_rng(11)
        for _ in range(40):
            scene = draw_scene(random, held=False, pairs=0.3)
            assert truth(scene) == judge(through_mp4(draw(random, scene), tmp_path)), scene

    def test_noise_changes_no_verdict(self):
        """Nor does a little noise on every pixel."""
        random = np.random.default_rng(12)
        for _ in range(40):
            scene = draw_scene(random, held=False, pairs=0.0)
            noisy = draw(random, scene) + random.normal(0, 6, (17, 64, 64, 3))
            assert truth(scene) == judge(np.clip(noisy, 0, 255).astype(np.uint8)), scene


class TestWrongClips:
    def test_an_empty_clip_has_no_thing(self):
        """Only a background: nothing is seen on it."""
        assert Verdict("white", ()) == judge(np.full((17, 64, 64, 3), 245, np.uint8))

    def test_a_clip_played_backwards_moves_the_other_way(self):
        """The direction of a motion is read, not only that there is one."""
        scene = Scene((Thing("circle", "red", "small"),), "blue", "left")
        clip = draw(np.random.default_rng(1), scene)
        assert judge(clip[::-1]).things[0].motion == "right"

    @pytest.mark.parametrize("motion", MOTIONS)
    def test_each_other_motion_is_wrong(self, motion):
        """A clip is right for its own prompt and for no other motion's."""
        scene = Scene((Thing("square", "green", "large"),), "black", motion)
        seen = judge(draw(np.random.default_rng(2), scene))
        for other in MOTIONS:
            case = Case(attrs.evolve(scene, motion=other), "", 0, held=False, chinese=False)
            assert {**RIGHT, "motion": other == motion} == verdicts(case, seen)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_missing_second_thing_is_wrong(self, shape):
        """One shape where the prompt asks for two: only the background is right."""
        thing = Thing(shape, "red", "small")
        seen = judge(draw(np.random.default_rng(3), Scene((thing,), "white", "still")))
        both = Scene((thing, Thing("circle", "blue", "small")), "white", "still")
        found = verdicts(Case(both, "", 0, held=False, chinese=False), seen)
        assert {**dict.fromkeys(RIGHT, False), "background": True} == found


class TestCases:
    def test_a_third_is_held_out_and_a_third_is_chinese(self):
        """The mix that the report is about."""
        made = cases("final", 300)
        assert sum(case.held for case in made) == 100
        assert 0.32 < sum(case.chinese for case in made) / 300 < 0.35

    def test_the_two_sets_share_no_seed(self):
        """What is reported was not chosen on."""
        seeds = [{case.seed for case in cases(which, 300)} for which in ("choosing", "final")]
        assert not seeds[0] & seeds[1]
