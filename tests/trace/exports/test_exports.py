"""Tables, key points and pictures: derived again from the events, whole or not at all."""

import csv
import errno
import json
import os
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import pytest
from PIL import Image

from wanflow.errors import InputError, StageFailed
from wanflow.trace.events import Kind, Move, StageSpan, Verb, Workspace
from wanflow.trace.exports import export
from wanflow.trace.exports.chart import COLUMNS
from wanflow.trace.exports.curve import draw_curves
from wanflow.trace.exports.follow import KINDS
from wanflow.trace.exports.table import COLUMNS as HEADINGS

GPU, GIB, SECOND = "cuda:0", 2**30, 10**9
EVIL = '=cmd()\n"</text><script>alert(1)</script>\x1b[2J\u202e'


def evil_run() -> list:
    """Events whose every name is code for somebody."""
    return [
        Move(Verb.PLACE, Kind.VALUE, EVIL, EVIL, 0, EVIL, EVIL, 10, 10, 0, 1, 0, EVIL),
        Workspace(EVIL, EVIL, 0, EVIL, 10, 20, 1, 1000),
        StageSpan(EVIL, EVIL, 0, 1000, 20, (EVIL,)),
    ]


class TestTable:
    """CSV."""

    def test_rows_are_derived_again(self, run, header, write, tmp_path) -> None:
        """Every change of what is resident; kinds add up to it."""
        export(write(run, header), "csv", tmp_path / "out.csv")
        rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
        held: dict[str, int] = defaultdict(int)
        for row in rows:
            if row["event"] in {"place", "stream", "offload", "free"}:
                sign = -1 if row["event"] == "free" else 1
                held[row["tier"]] += sign * int(row["nbytes"])
            extra = int(row["nbytes"]) if row["event"] == "call" else 0
            if row["event"] == "measured":
                continue
            kinds = [int(row[f"{k}_bytes"]) for k in KINDS]
            assert int(row["resident_bytes"]) == held[row["tier"]] + extra == sum(kinds)
            assert row["other_bytes"] == "0"

        assert tuple(rows[0]) == HEADINGS
        calls, moves = 3, 6
        assert len(rows) == moves + 2 * calls + 2

    def test_a_name_is_no_formula(self, write, tmp_path) -> None:
        """Nor two lines, nor a control sign."""
        export(write(evil_run()), "csv", tmp_path / "out.csv")
        rows = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
        cells = {cell for row in rows[1:] for cell in row}

        assert not any(cell.startswith(("=", "+", "@")) for cell in cells)
        assert all(cell.isprintable() for cell in cells)


class TestKeyPoints:
    """`memory_events.json`."""

    def test_allocated_and_peak_are_derived_again(self, run, header, write, tmp_path) -> None:
        """At each step's and stage's end, on the budget's tier."""
        export(write(run, header), "events", tmp_path / "memory_events.json")
        found = json.loads((tmp_path / "memory_events.json").read_text())
        rows = [(e["event"], e["allocated_bytes"], e["peak_bytes"]) for e in found["events"]]

        assert rows == [
            ("start", 0, 0),
            ("stage_start", 2 * GIB, 2 * GIB),
            ("stage_end", GIB, 3 * GIB),
            ("stage_start", 4 * GIB, 4 * GIB),
            ("step_end", 4 * GIB, 7 * GIB),
            ("step_end", 4 * GIB, 7 * GIB),
            ("stage_end", 3 * GIB, 7 * GIB),
            ("measured", 3 * GIB, 7 * GIB),
            ("measured", 3 * GIB, 7 * GIB),
            ("note", 3 * GIB, 7 * GIB),
            ("end", 3 * GIB, 7 * GIB),
        ]
        assert (found["budget_bytes"], found["state"], found["status"]) == (
            8 * GIB,
            "whole",
            "done",
        )
        times = [e["at_seconds"] for e in found["events"]]
        assert times == sorted(times)

    def test_a_cut_trace_says_so(self, run, header, write, tmp_path) -> None:
        """In the file, which has what was whole."""
        path = write(run, header, status=None)
        made = export(path, "events", tmp_path / "out.json")
        found = json.loads((tmp_path / "out.json").read_text())

        assert (found["state"], made.state) == ("cut", "cut")
        assert found["problem"] == made.problem != ""
        assert made.events == len(run)


class TestCurve:
    """What is drawn."""

    def test_no_peak_falls_between_columns(self, run) -> None:
        """However few there are."""
        for columns in (1, 7, COLUMNS):
            curve = draw_curves(run, 231 * SECOND, columns).tiers[GPU]
            assert max(curve.resident_bytes) == 7 * GIB
            assert (curve.peak.resident_bytes, curve.peak.at_ns) == (7 * GIB, 13 * SECOND)

    def test_columns_hold_what_lies_there(self, run) -> None:
        """At every second, by the events before it."""
        columns = draw_curves(run, 231 * SECOND, 231).tiers[GPU].cells
        wanted = {4: 3 * GIB, 10: GIB, 50: 7 * GIB, 228: 4 * GIB, 230: 3 * GIB}

        assert {at: columns[at].resident_bytes for at in wanted} == wanted
        assert all(sum(c.by_kind[k] for k in KINDS) == c.resident_bytes for c in columns)

    def test_times_out_of_all_bounds_are_drawn(self) -> None:
        """A trace is anybody's."""
        late = [
            Workspace("x", "s", 0, GPU, 5, 5, 2**63, 1),
            Workspace("x", "s", 0, GPU, 5, 5, 1, 2),
        ]
        curve = draw_curves(late, 0, 10).tiers[GPU]

        assert len(curve.cells) == 10
        assert curve.cells[-1].resident_bytes == 5


class TestPictures:
    """SVG and PNG."""

    def test_svg_is_xml_that_fetches_and_runs_nothing(self, write, tmp_path) -> None:
        """Names are text in it."""
        export(write(evil_run(), {"graph": EVIL, "budget_tier": EVIL}), "svg", tmp_path / "out.svg")
        root = ET.parse(tmp_path / "out.svg").getroot()  # noqa: S314 - we wrote it
        tags = {element.tag.rpartition("}")[2] for element in root.iter()}
        names = {name for element in root.iter() for name in element.attrib}

        assert tags <= {"svg", "title", "rect", "path", "text"}
        assert not any(name.startswith("on") or "href" in name for name in names)
        assert "<script" not in (tmp_path / "out.svg").read_text()
        assert "\x1b" not in (tmp_path / "out.svg").read_text()

    def test_both_show_the_same_shapes(self, run, header, write, tmp_path) -> None:
        """Where the SVG has the workspace at the peak, the PNG has its colour."""
        trace = write(run, header)
        export(trace, "svg", tmp_path / "out.svg")
        export(trace, "png", tmp_path / "out.png")
        root = ET.parse(tmp_path / "out.svg").getroot()  # noqa: S314 - we wrote it
        texts = ["".join(e.itertext()) for e in root.iter() if e.tag.endswith("text")]
        image = Image.open(tmp_path / "out.png").convert("RGB")
        size = (int(root.get("width")), int(root.get("height")))

        assert (size[0] * 2, size[1] * 2) == image.size
        assert "budget 8.00 GiB" in texts
        assert "peak 7.00 GiB" in texts
        counts = {colour: n for n, colour in image.getcolors(2**20)}
        assert counts[0x66, 0xCC, 0xEE] > 100_000
        assert counts[0x44, 0x77, 0xAA] > 100_000

    @pytest.mark.parametrize("wanted", ["svg", "png"])
    def test_a_trace_without_events_is_drawn(self, write, tmp_path, wanted) -> None:
        """The picture says what there is: nothing."""
        export(write([]), wanted, tmp_path / "out")
        assert (tmp_path / "out").stat().st_size > 500


class TestTarget:
    """The file appears whole or not at all."""

    def test_replaces_a_file_once_it_is_whole(self, run, write, tmp_path) -> None:
        """Nothing is left beside it."""
        (tmp_path / "out.csv").write_text("old")
        made = export(write(run), "csv", tmp_path / "out.csv")

        assert (tmp_path / "out.csv").stat().st_size == made.nbytes > 1000
        assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "trace.msgpack"]

    def test_refuses_to_write_over_the_trace(self, run, write, tmp_path) -> None:
        """By whatever name."""
        path = write(run)
        before = path.read_bytes()
        (tmp_path / "link").symlink_to(path)
        for target in (path, tmp_path / "link"):
            with pytest.raises(InputError, match="is the trace itself"):
                export(path, "csv", target)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("name", ["nowhere/out.csv", ".", "/dev/null", "x" * 300, "a\0b"])
    def test_a_bad_path_is_one_clear_message(self, run, write, tmp_path, name) -> None:
        """And leaves nothing."""
        with pytest.raises(InputError, match=r"can't write|is not a file"):
            export(write(run), "csv", tmp_path / name)
        assert [p.name for p in tmp_path.iterdir()] == ["trace.msgpack"]

    def test_a_full_disk_leaves_the_old_file(self, run, write, tmp_path, monkeypatch) -> None:
        """The message says what happened."""
        trace, target = write(run), tmp_path / "out.csv"
        target.write_text("old")

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StageFailed, match="No space left"):
            export(trace, "csv", target)
        monkeypatch.undo()

        assert target.read_text() == "old"
        assert sorted(p.name for p in Path(tmp_path).iterdir()) == ["out.csv", "trace.msgpack"]
