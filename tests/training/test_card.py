"""The model card, and the strip of frames in the README."""

import json
from pathlib import Path

import numpy as np

from scripts.strip import strip
from scripts.train_tiny.card import card
from wanflow.models.weights.locate import BUNDLED

LOG = [
    {"phase": "text", "step": 20, "answer": 4.5, "seconds_a_step": 0.2},
    {"phase": "text", "step": 40, "answer": 0.5, "seconds_a_step": 0.4},
    {"phase": "dit", "step": 600, "velocity": 0.25, "seconds_a_step": 1.0},
]
SCORES = {
    "set": "final", "steps": 8, "guidance": 5.0,
    "all": {"clips": 3, "background": 100.0, "colour": 66.7, "shape": 33.3, "motion": 0.0},
}  # fmt: skip


class TestCard:
    def test_says_what_log_and_scores_say(self, tmp_path):
        """Steps, seconds and losses by phase; shares by kind of clip; bytes by part."""
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))
        given = {**SCORES, "first frame, dB": {"least": 26.1, "median": 31.4}}
        text = card(tmp_path, BUNDLED / "wan-tiny", SCORES, given)
        assert "| text encoder | 40 | 0.30 | answer 0.5000 |" in text
        assert "about 10 minutes" in text
        assert text.count("| all, 3 | 100.0 | 66.7 | 33.3 | 0.0 |") == 2
        assert "31.4 dB (median; least 26.1)" in text
        size = (BUNDLED / "wan-tiny" / "text_encoder" / "model.safetensors").stat().st_size
        assert f"{size:,}" in text

    def test_the_bundled_model_has_one(self):
        """Beside the weights, with the log, and all of it at most 14 MB."""
        folder: Path = BUNDLED / "wan-tiny"
        assert "## Scores" in (folder / "README.md").read_text()
        lines = (folder / "training.jsonl").read_text().splitlines()
        phases = {json.loads(line)["phase"] for line in lines}
        assert {"vae1", "vae2", "vae3", "text", "dit", "decoder"} == phases
        assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 14_000_000


class TestStrip:
    def test_every_other_frame_side_by_side(self):
        """Nine of 17 frames, twice as large, in their order."""
        clip = np.zeros((17, 32, 32, 3), np.uint8)
        clip += np.arange(0, 255, 15, dtype=np.uint8)[:, None, None, None]
        made = np.asarray(strip(clip))
        assert made.shape == (64, 9 * 64 + 8 * 4, 3)
        shown = [int(made[32, 32 + place * 68, 0]) for place in range(9)]
        assert shown == list(range(0, 255, 30))
