"""Score a trained folder: clips for 300 prompts and seeds, written as mp4, read back and judged.

Usage: python -m scripts.train_tiny.evaluate FOLDER [--set choosing|final] [--steps 8]
       [--guidance 5.0] [--count 300] [--picture FILE.png] [--json FILE]

Settings are chosen on the first set. The second one is for the report, and for nothing else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.train_tiny.captions import caption
from scripts.train_tiny.judge import Verdict, judge, read_video
from scripts.train_tiny.sampling import generate, load_parts
from scripts.train_tiny.world import FPS, Scene, draw_scene

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
    """Encode with the settings of `write_video`, and decode."""
    import av

    path = folder / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(
            "libx264", rate=FPS, options={"crf": "18", "preset": "medium"}
        )
        stream.height, stream.width = clip.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return read_video(path)


def share(found: Sequence[dict[str, bool]]) -> dict[str, float]:
    """Percent right of each aspect."""
    return {a: round(100 * float(np.mean([f[a] for f in found])), 1) for a in ASPECTS}


def main() -> None:
    """Generate, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", choices=tuple(SETS), default="choosing", dest="which")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    parts, every = load_parts(given.folder), cases(given.which, given.count)
    found, strips = [], []
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(every), _BATCH):
            some = every[start : start + _BATCH]
            clips = generate(
                parts, [c.prompt for c in some], [c.seed for c in some],
                steps=given.steps, guidance=given.guidance,
            ).numpy()  # fmt: skip
            for case, clip in zip(some, clips, strict=True):
                seen = judge(through_mp4(clip, Path(folder)))
                found.append(verdicts(case, seen))
                strips.append(np.concatenate(list(clip[::4]), axis=1))
    one = [len(case.scene.things) == 1 for case in every]
    groups = {
        "all": [True] * len(every),
        "one shape": one,
        "two shapes": [not o for o in one],
        "held out": [c.held for c in every],
        "Chinese": [c.chinese for c in every],
    }
    report: dict[str, Any] = {
        "set": given.which, "steps": given.steps, "guidance": given.guidance,
    }  # fmt: skip
    for name, chosen in groups.items():
        part = [f for f, is_in in zip(found, chosen, strict=True) if is_in]
        report[name] = {"clips": len(part), **(share(part) if part else {})}
    print(json.dumps(report, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=2) + "\n")
    if given.picture is not None:
        columns = [np.concatenate(strips[i : i + 12]) for i in range(0, len(strips) // 12 * 12, 12)]
        Image.fromarray(np.concatenate(columns[:4], axis=1)).save(given.picture)


if __name__ == "__main__":
    main()
