"""Score a trained folder: clips for 300 prompts and seeds, written as mp4, read back and judged.

Usage: python -m scripts.train_tiny.evaluate FOLDER [--given] [--set choosing|final] [--steps 8]
       [--guidance 3.0] [--count 300] [--picture FILE.png] [--json FILE]

`--given` gives each clip a first frame that fits its prompt, and tells how well it is kept.
Settings are chosen on the first set. The second one is for the report, and for nothing else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.train_tiny.captions import caption
from scripts.train_tiny.drawing import draw
from scripts.train_tiny.judge import Verdict, judge, read_video
from scripts.train_tiny.sampling import Parts, generate, load_parts
from scripts.train_tiny.world import FPS, Scene, draw_scene
from wanflow.stages.video_file import VideoFile

SETS = {"choosing": 71_000_000, "final": 93_000_000}
ASPECTS = ("background", "colour", "shape", "motion")
_BATCH = 25


@attrs.frozen
class Case:
    """A prompt, a seed, and what the clip should show."""

    scene: Scene
    prompt: str
    seed: int
    held: bool
    chinese: bool


def cases(which: str, count: int) -> list[Case]:
    """A third from held-out combinations, a third (across these) in Chinese."""
    made = []
    for index in range(count):
        random = np.random.default_rng((SETS[which], index))
        held, chinese = index % 3 == 0, index // 3 % 3 == 0
        scene = draw_scene(random, held=held)
        text = caption(random, scene, "zh" if chinese else "en")
        made.append(Case(scene, text, int(random.integers(0, 2**31)), held, chinese))
    return made


def first_frame(which: str, index: int, scene: Scene) -> NDArray[np.uint8]:
    """A picture of a case's scene: `[height, width, 3]`."""
    return np.asarray(draw(np.random.default_rng((SETS[which], index, 1)), scene)[0])


def likeness(frame: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal to noise ratio, in decibels."""
    error = float(np.square(frame.astype(np.float64) - other).mean())
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def verdicts(case: Case, seen: Verdict) -> dict[str, bool]:
    """Which aspects are as the prompt says: of a pair, each of both things."""
    whole = len(seen.things) == len(case.scene.things)
    pairs = list(zip(case.scene.things, seen.things, strict=False))
    return {
        "background": seen.background == case.scene.background,
        "colour": whole and all(want.colour == got.colour for want, got in pairs),
        "shape": whole and all(want.shape == got.shape for want, got in pairs),
        "motion": whole and all(got.motion == case.scene.motion for _, got in pairs),
    }


def through_mp4(clip: NDArray[np.uint8], folder: Path) -> NDArray[np.uint8]:
    """Encode as `write_video` does, and decode."""
    path = folder / "clip.mp4"
    video = VideoFile(path, Fraction(FPS), None)
    video.write(clip)
    video.finish()
    video.close()
    return read_video(path)


def share(found: Sequence[dict[str, bool]]) -> dict[str, float]:
    """Percent right of each aspect."""
    return {a: round(100 * float(np.mean([f[a] for f in found])), 1) for a in ASPECTS}


@attrs.frozen
class Scored:
    """What the clips of all cases show."""

    found: list[dict[str, bool]]
    kept: list[float]  # how like the given first frames are, in decibels; empty without
    strips: list[NDArray[np.uint8]]


def score(parts: Parts, every: Sequence[Case], given: argparse.Namespace) -> Scored:
    """Generate all clips, some at a time, and judge them."""
    made = Scored([], [], [])
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(every), _BATCH):
            some = every[start : start + _BATCH]
            firsts = np.stack(
                [first_frame(given.which, start + i, c.scene) for i, c in enumerate(some)]
            )
            clips = generate(
                parts, [c.prompt for c in some], [c.seed for c in some], steps=given.steps,
                guidance=given.guidance, first=firsts if given.from_frame else None,
            ).numpy()  # fmt: skip
            for case, clip, first in zip(some, clips, firsts, strict=True):
                shown = through_mp4(clip, Path(folder))
                made.found.append(verdicts(case, judge(shown)))
                made.strips.append(np.concatenate(list(clip[::4]), axis=1))
                if given.from_frame:
                    made.kept.append(likeness(shown[0], first))
    return made


def report(every: Sequence[Case], made: Scored, given: argparse.Namespace) -> dict[str, Any]:
    """Tell the shares by kind of case."""
    one = [len(case.scene.things) == 1 for case in every]
    groups = {
        "all": [True] * len(every),
        "one shape": one,
        "two shapes": [not o for o in one],
        "held out": [c.held for c in every],
        "Chinese": [c.chinese for c in every],
    }
    told: dict[str, Any] = {
        "set": given.which, "steps": given.steps, "guidance": given.guidance,
        "first frame given": given.from_frame,
    }  # fmt: skip
    if made.kept:
        low, middle = min(made.kept), float(np.median(made.kept))
        told["first frame, dB"] = {"least": round(low, 1), "median": round(middle, 1)}
        told["first frame, share of 25 dB"] = share_of(made.kept, 25.0)
    for name, chosen in groups.items():
        part = [f for f, is_in in zip(made.found, chosen, strict=True) if is_in]
        told[name] = {"clips": len(part), **(share(part) if part else {})}
    return told


def share_of(values: Sequence[float], least: float) -> float:
    """Percent that are at least so much."""
    return round(100 * float(np.mean([value >= least for value in values])), 1)


def main() -> None:
    """Generate, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--given", action="store_true", dest="from_frame")
    parser.add_argument("--set", choices=tuple(SETS), default="choosing", dest="which")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    every = cases(given.which, given.count)
    made = score(load_parts(given.folder), every, given)
    told = report(every, made, given)
    print(json.dumps(told, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(told, indent=2) + "\n")
    if given.picture is not None:
        strips = made.strips
        columns = [np.concatenate(strips[i : i + 12]) for i in range(0, len(strips) // 12 * 12, 12)]
        Image.fromarray(np.concatenate(columns[:4], axis=1)).save(given.picture)


if __name__ == "__main__":
    main()
