"""The bundled model shows what the prompt says, the same at every budget; nothing is an error."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from scripts.train_tiny.drawing import draw
from scripts.train_tiny.evaluate import likeness
from scripts.train_tiny.judge import Seen, Verdict, judge, read_video
from scripts.train_tiny.sampling import generate, load_parts
from scripts.train_tiny.world import FRAMES, SIDE, Scene, Thing, held_out
from tests.jobs import TINY, budgets
from wanflow.session import Request, run

Clip = NDArray[np.uint8]


@attrs.frozen
class Asked:
    """A prompt and what its video must show."""

    prompt: str
    background: str
    things: tuple[Seen, ...]


ASKED = {
    "the graph's own": Asked(
        "a red circle moves right on a blue background",
        "blue", (Seen("circle", "red", "right"),),
    ),
    "shrinks": Asked(
        "a large green triangle shrinks on a white background",
        "white", (Seen("triangle", "green", "shrink"),),
    ),
    "Chinese": Asked(
        "黑色背景上,一个大黄色圆形向上移动", "black", (Seen("circle", "yellow", "up"),)
    ),
}  # fmt: skip


OUTSIDE = {
    "empty": "",
    "blank": " \n\t",
    "2000 words": "kite " * 2000,
    "emoji": "🪁🌊 👨\u200d👩\u200d👧\u200d👦",
    "German": "ein grüner Kreis im Regen",
    "Japanese": "凧が海の上を飛ぶ",
    "controls": "\u202eabc\u0301\x07",
    "3000 signs": "红" * 3000,
}


def asking(prompt: str, graph: str = "t2v-tiny", **inputs: str | int) -> Request:
    """A request on the CPU with default settings."""
    return Request(graph, {"prompt": prompt, **inputs}, device="cpu")


def made(request: Request, out: Path) -> Clip:
    """Run it; the frames of its mp4, uint8 `[frames, height, width, 3]`."""
    run(request, out=out)
    return read_video(out / "video.mp4")


def within(request: Request, room: int) -> Request:
    """The same inside *room* bytes."""
    return attrs.evolve(request, vram=f"{room}B")


class TestMeaning:
    """With default settings, and at the smallest budget there is."""

    @pytest.mark.parametrize("name", ASKED)
    def test_shows_what_the_prompt_says_at_every_budget(self, name: str, tmp_path: Path) -> None:
        """The judge reads the prompt back; at the minimum it says the same of the same picture."""
        asked = ASKED[name]
        request = asking(asked.prompt)
        whole = made(request, tmp_path / "whole")
        assert judge(whole) == Verdict(asked.background, asked.things)
        small = made(within(request, budgets(request)[2]), tmp_path / "small")
        assert judge(small) == judge(whole)
        assert likeness(small, whole) >= 45

    @pytest.mark.parametrize(
        "name",
        ["shrinks", *(pytest.param(n, marks=pytest.mark.wide) for n in ASKED if n != "shrinks")],
    )
    def test_exact_is_the_same_to_the_bit(self, name: str, tmp_path: Path) -> None:
        """`--exact`: no pixel differs between the largest budget and the smallest."""
        request = attrs.evolve(asking(ASKED[name].prompt), exact=True)
        most, _, least = budgets(request)
        clips = [made(within(request, room), tmp_path / str(room)) for room in (most, least)]
        assert np.array_equal(*clips)


class TestFirstFrame:
    """`i2v-tiny`."""

    @pytest.mark.parametrize(
        ("motion", "verb"),
        [
            ("up", "moves up"),
            ("still", "rests"),
            pytest.param("left", "moves to the left", marks=pytest.mark.wide),
        ],
    )
    def test_is_kept_and_goes_on_as_the_prompt_says(
        self, motion: str, verb: str, tmp_path: Path
    ) -> None:
        """The given picture is the first frame, and the same thing moves."""
        scene = Scene((Thing("square", "orange", "large"),), "gray", motion)
        first = draw(np.random.default_rng(5), scene)[0]
        Image.fromarray(first).save(tmp_path / "first.png")
        prompt = f"a large orange square {verb} on a gray background"
        image = str(tmp_path / "first.png")
        clip = made(asking(prompt, "i2v-tiny", image=image), tmp_path / "run")
        assert likeness(clip[0], first) >= 25
        assert judge(clip) == Verdict("gray", (Seen("square", "orange", motion),))


class TestTheScores:
    """The scores in the model card are of clips that a script makes many at a time."""

    def test_the_script_makes_what_the_graphs_make(self, tmp_path: Path) -> None:
        """Same prompt and seed: the same picture, through the same file."""
        prompt = ASKED["shrinks"].prompt
        clip = made(asking(prompt, seed=3), tmp_path / "run")
        many = generate(load_parts(TINY), [prompt, "x"], [3, 4], steps=8, guidance=3.0).numpy()
        assert likeness(clip, many[0]) >= 30  # the file's own loss

    def test_some_prompts_here_were_never_trained_on(self) -> None:
        """The second and the third are held-out combinations."""
        scenes = [
            Scene((Thing(seen.shape, seen.colour, "large"),), asked.background, seen.motion)
            for asked in ASKED.values()
            for seen in asked.things
        ]
        assert [held_out(scene) for scene in scenes] == [False, True, True]


class TestOutsideTheWorld:
    """Whatever is asked makes a video."""

    @pytest.mark.parametrize("prompt", OUTSIDE.values(), ids=OUTSIDE)
    @pytest.mark.wide
    def test_makes_a_video(self, prompt: str, tmp_path: Path) -> None:
        """All its frames, and never an error."""
        clip = made(asking(prompt, steps=2), tmp_path / "run")
        assert clip.shape == (FRAMES, SIDE, SIDE, 3)

    @pytest.mark.parametrize("name", ["empty", "2000 words", "emoji", "controls"])
    def test_makes_a_frame(self, name: str, tmp_path: Path) -> None:
        """The same of one frame in one step."""
        clip = made(asking(OUTSIDE[name], steps=1, frames=1), tmp_path / "run")
        assert clip.shape == (1, SIDE, SIDE, 3)
