"""A preview on a terminal."""

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from wanflow.cli.preview_blocks import LastPreview, blocks
from wanflow.files.preview_files import write_preview
from wanflow.trace.events import Preview

MADE = Preview("denoise", 0, 3, 8, 4, 0)


def console(width=80, height=24, *, terminal=True, system="truecolor", encoding="utf-8", **more):
    """A terminal that keeps what is written to it."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(
        file=out, width=width, height=height, force_terminal=terminal, color_system=system,
        _environ={"TERM": "xterm"}, **more,
    )  # fmt: skip


@pytest.fixture
def made(tmp_path):
    """The last preview of a folder: a red, a green and a blue frame."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
    write_preview(tmp_path, np.tile(colours[:, None, None], (1, 4, 8, 1)), 250)
    last = LastPreview()
    last.start({"out": str(tmp_path)})
    last.see(MADE)
    return last


class TestShown:
    def test_side_by_side(self, made):
        """Three frames of 24 cells and 6 rows, in the colours of their halves."""
        text = made.drawn(console())
        rows = text.plain.rstrip("\n").split("\n")
        assert len(rows) == 6
        assert set(rows) == {"  ".join(["\u2580" * 24] * 3)}
        assert {str(span.style) for span in text.spans} == {
            f"rgb({c}) on rgb({c})" for c in ("255,0,0", "0,255,0", "0,0,255")
        }

    def test_the_ends_where_not_all_fit(self, made):
        """On a narrow terminal the first and the last."""
        text = made.drawn(console(width=52))
        assert {str(span.style)[:9] for span in text.spans} == {"rgb(255,0", "rgb(0,0,2"}
        assert max(map(len, text.plain.split("\n"))) <= 52

    @pytest.mark.parametrize(
        "where",
        [
            {"terminal": False},
            {"system": None},
            {"system": "standard"},
            {"encoding": "latin-1"},
            {"no_color": True},
            {"width": 11},
            {"height": 11},
        ],
        ids=str,
    )
    def test_nothing_where_it_can_not_be(self, made, where):
        """A pipe, few colours, no half blocks, no room."""
        assert made.drawn(console(**where)) is None

    def test_a_lost_file(self, made, tmp_path):
        """Is no error."""
        (tmp_path / "preview.png").unlink()
        made.see(MADE)
        assert made.drawn(console()) is None

    def test_another_run(self, made, tmp_path):
        """Begins with nothing: a row of a batch after another."""
        made.start({"out": str(tmp_path)})
        assert made.drawn(console()) is None


@pytest.mark.parametrize(("size", "rows"), [((104, 60), 7), ((60, 104), 12), ((8, 8), 12)])
def test_shapes(size, rows):
    """No higher than twelve rows, whatever the clip is like."""
    text = blocks([Image.new("RGB", size)] * 2, 80, 18)
    assert len(text.plain.rstrip("\n").split("\n")) == rows
