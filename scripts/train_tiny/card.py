"""Write the model card, and the training's log, beside the weights.

Usage: python -m scripts.train_tiny.card TRAINING MODEL SCORES.json GIVEN.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from scripts.train_tiny.dit import SHIFT, Course
from scripts.train_tiny.evaluate import ASPECTS
from scripts.train_tiny.world import BACKGROUNDS, COLOURS, FPS, FRAMES, MOTIONS, SHAPES, SIDE

_PARTS = {"text_encoder": "text encoder", "transformer": "transformer", "vae": "autoencoder"}
_PHASES = {
    "vae1": "autoencoder, single frames", "vae2": "autoencoder, 9 frames",
    "vae3": "autoencoder, 17 frames", "text": "text encoder", "dit": "transformer",
    "decoder": "decoder alone",
}  # fmt: skip
_LOSSES = ("pixel", "answer", "velocity")
_THIN = 5  # lines of the log for one that is kept
_TEXT = Path(__file__).with_name("card.md")  # with fields to fill in


def sizes(model: Path) -> list[str]:
    """A line a part."""
    lines = []
    for part, name in _PARTS.items():
        (file,) = (model / part).glob("*.safetensors")
        with safe_open(file, framework="pt") as opened:
            count = sum(opened.get_tensor(key).numel() for key in opened.keys())  # noqa: SIM118
        lines.append(f"| {name} | {count:,} | {file.stat().st_size:,} |")
    return lines


def phases(log: Iterable[Mapping[str, Any]]) -> tuple[list[str], float]:
    """A line a phase, and the minutes of all."""
    last: dict[str, Mapping[str, Any]] = {}
    seconds: dict[str, list[float]] = {}
    for line in log:
        last[line["phase"]] = line
        seconds.setdefault(line["phase"], []).append(line["seconds_a_step"])
    lines, total = [], 0.0
    for phase, name in _PHASES.items():
        if phase not in last:
            continue
        line, pace = last[phase], sum(seconds[phase]) / len(seconds[phase])
        loss = next(f"{key} {line[key]:.4f}" for key in _LOSSES if key in line)
        lines.append(f"| {name} | {line['step']:,} | {pace:.2f} | {loss} |")
        total += line["step"] * pace
    return lines, total / 60


def table(scores: Mapping[str, Any]) -> list[str]:
    """A line a kind of clip."""
    groups = {name: found for name, found in scores.items() if isinstance(found, dict)}
    return [
        f"| {name}, {found['clips']} | " + " | ".join(f"{found[a]:.1f}" for a in ASPECTS) + " |"
        for name, found in groups.items()
        if "clips" in found
    ]


def card(training: Path, model: Path, scores: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Give the card's text."""
    log = [json.loads(line) for line in (training / "log.jsonl").read_text().splitlines()]
    trained, minutes = phases(log)
    like = given["first frame, dB"]
    return _TEXT.read_text().format(
        frames=FRAMES, side=SIDE, fps=FPS, shapes=", ".join(SHAPES), colours=len(COLOURS),
        backgrounds=len(BACKGROUNDS), motions=len(MOTIONS), motion_names=", ".join(MOTIONS),
        sizes="\n".join(sizes(model)), minutes=round(minutes), shift=SHIFT, count=Course().count,
        phases="\n".join(trained), clips=scores["all"]["clips"], steps=scores["steps"],
        guidance=scores["guidance"], aspects=" | ".join(ASPECTS), bars="|".join("-" * len(ASPECTS)),
        scores="\n".join(table(scores)), given="\n".join(table(given)),
        kept=f"{like['median']} dB (median; least {like['least']})",
    )  # fmt: skip


def main() -> None:
    """Write both files."""
    training, model, *files = (Path(word) for word in sys.argv[1:])
    scores, given = (json.loads(file.read_text()) for file in files)
    (model / "README.md").write_text(card(training, model, scores, given))
    lines = (training / "log.jsonl").read_text().splitlines(keepends=True)
    (model / "training.jsonl").write_text("".join(lines[_THIN - 1 :: _THIN]))


if __name__ == "__main__":
    main()
