"""The figures in docs are those that the kept figures give, small, and the same bytes again."""

import json
import re

import matplotlib as mpl
import pytest
from PIL import Image

from benchmarks.lib.report import RESULTS
from scripts.figures import planned, runs
from scripts.figures.__main__ import FOLDER
from scripts.figures.drawn import Peak, everything, peaks, recorded
from scripts.memory_tables.planned import stored
from wanflow.graph import shipped_graphs

NAMES = {"budgets", "budget-t2v-1.3b", "full-size", "memory-over-time", "peaks"}
MOST_BYTES = 150_000


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Draw all of them once."""
    folder = tmp_path_factory.mktemp("figures")
    everything(planned.stored(), runs.stored(), stored(), folder)
    return folder


class TestDrawn:
    def test_each_is_there_twice_and_small(self) -> None:
        """As SVG and as PNG."""
        files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
        assert set(files) == {f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")}
        assert max(files.values()) < MOST_BYTES

    def test_are_up_to_date(self, drawn) -> None:
        """The bytes that are committed, where they were drawn by this Matplotlib."""
        for name in NAMES:
            text = (FOLDER / f"{name}.svg").read_text()
            assert text == (drawn / f"{name}.svg").read_text(), f"{name}: run make figures"
            assert "<dc:date>" not in text
            assert f"matplotlib {mpl.__version__}".lower() not in text.lower()

    def test_pictures_show_something(self, drawn) -> None:
        """Not one colour, nor a frame alone; wide enough to read."""
        for name in NAMES:
            with Image.open(drawn / f"{name}.png") as picture:
                assert picture.width >= 600
                assert len(picture.convert("RGB").getcolors(2**24)) > 20

    def test_labels(self, drawn) -> None:
        """Axes with units; each graph that was planned has its panel."""
        texts = {name: (drawn / f"{name}.svg").read_text() for name in NAMES}
        for name, words in {
            "budgets": ("budget, GiB", "longer than at best, %"),
            "budget-t2v-1.3b": ("peak on the card, GiB", "minutes", "attention slicing"),
            "memory-over-time": ("memory, MiB", "seconds", "weights", "budget"),
            "peaks": ("predicted peak, MiB", "measured peak, MiB"),
            "full-size": ("minutes", "GiB", "the budget", "diffusers, resident memory"),
        }.items():
            assert all(word in texts[name] for word in words), name
        for row in planned.stored():
            assert row["graph"].endswith("-tiny") or f">{row['graph']}, " in texts["budgets"]


class TestFigures:
    def test_budgets(self) -> None:
        """Of shipped graphs; more room never takes longer, and the ends are those of the plan."""
        for row in planned.stored():
            assert row["graph"] in shipped_graphs()
            sizes, seconds = zip(*row["points"], strict=True)
            assert list(sizes) == sorted(sizes)
            assert list(seconds) == sorted(seconds, reverse=True)
            assert sizes[-1] == row["resident_bytes"]

    def test_runs(self) -> None:
        """Every run was within its budget, and what is drawn of one reaches its peak."""
        ran = runs.stored()
        assert all(row["peak_bytes"] <= row["budget_bytes"] for row in ran["rows"])
        for shown in ran["over_time"]:
            columns = zip(*(shown[kind] for kind in runs.KINDS), strict=True)
            peak = max(map(sum, columns))
            assert peak in {row["peak_bytes"] for row in ran["rows"]}
            assert peak <= shown["budget_bytes"]

    def test_every_recorded_run(self) -> None:
        """As many as the committed files have rows with both peaks, or are such a row."""
        reports = [json.loads(path.read_text()) for path in RESULTS.rglob("*.json")]
        rows = [row for report in reports for row in report.get("rows", [report])]
        count = sum({"predicted_peak_bytes", "peak_bytes"} <= row.keys() for row in rows)
        assert len(list(recorded(RESULTS))) == count > 10

    def test_farthest_is_told(self, tmp_path) -> None:
        """One run that is off is in the title, one to the byte is said to be."""
        peaks([Peak("a", 100, 100), Peak("b", 90, 100)], tmp_path)
        assert re.search("2 runs: the farthest 10.00% off", (tmp_path / "peaks.svg").read_text())
        peaks([Peak("a", 100, 100)], tmp_path)
        assert "to the byte" in (tmp_path / "peaks.svg").read_text()
