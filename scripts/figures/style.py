"""How the figures look, and how they are written: the same bytes from the same figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Okabe and Ito's colours, which colour-blind readers tell apart; each has a line style, a marker
# and a hatch of its own beside it, for who prints in grey.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#555555"
LINES = (("-", "o"), ("--", "s"), ("-.", "^"), (":", "D"))
DPI = 110

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "hatch.linewidth": 0.4,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "wanflow",  # else every id is random
    "svg.fonttype": "none",  # text stays text
}


@contextmanager
def drawing(width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[Any]:
    """Lend a figure of so many inches and its axes, an array where there are several."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
        try:
            yield figure, axes
        finally:
            plt.close(figure)


def keep(figure: Any, folder: Path, name: str) -> None:
    """Write a figure as SVG and as PNG, with neither a date nor a version in them."""
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    figure.savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
