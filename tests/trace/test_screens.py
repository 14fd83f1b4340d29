"""Every view as people see it: pinned at 80 and 120 columns, and safe whatever names hold.

`UPDATE_SCREENS=1 pytest tests/trace/test_screens.py` writes them anew; look at the difference.
"""

import io
import os
from pathlib import Path

import attrs
import pytest
from rich.cells import cell_len
from rich.console import Console

from wanflow.cli.live import Screen, live_on
from wanflow.trace import summarise, summarise_events
from wanflow.trace.check import check
from wanflow.trace.diff import diff
from wanflow.trace.events import Move
from wanflow.trace.listing import render_events
from wanflow.trace.moment import peak_moment
from wanflow.trace.stage_peaks import stage_loads
from wanflow.trace.timeline import timeline
from wanflow.trace.views import (
    render_check,
    render_diff,
    render_moment,
    render_stages,
    render_summary,
    render_timeline,
)
from wanflow.trace.views.timeline import cells_for

SCREENS = Path(__file__).parent / "screens"
VIEWS = ("summary", "stages", "timeline", "peak", "diff", "check", "events", "live")
HOSTILE = "\x1b[31m[red]a[/red]\r\n\u202eevil\x07; rm -rf ~"
GPU = "cuda:0"


def slower(run):
    """Give the run again, with a larger and slower transformer."""
    bigger = [
        attrs.evolve(e, nbytes=e.nbytes + 2**28, resident_bytes=e.resident_bytes + 2**28)
        if getattr(e, "name", "") == "dit" and isinstance(e, Move)
        else e
        for e in run
    ]
    return [
        attrs.evolve(e, resident_bytes=e.resident_bytes + 2**28) if i > 5 and hasattr(
            e, "resident_bytes") else e
        for i, e in enumerate(bigger)
    ]  # fmt: skip


def draw_live(events, header, console):
    """Draw a run that goes on, once, as its display does again and again."""
    screen = Screen()
    screen.state.budget_bytes = header["budget_bytes"]
    screen.state.planned_bytes = header["predicted_peak_bytes"]
    for event in events:
        screen.add(event)
    with live_on(console, lambda width: screen.text(lambda run: run.so_far_of(header), width)):
        pass


def show(view, events, header, write, width=80, **options):
    """Render a view as text, without the blanks that fill a line."""
    out = io.StringIO()
    console = Console(file=out, width=width, **options)
    tier = header["budget_tier"]
    summary = summarise_events(events, header)
    match view:
        case "summary":
            render_summary(summary, console)
        case "stages":
            render_stages(stage_loads(events, summary.stages, tier), console)
        case "timeline":
            cells = cells_for(width)
            render_timeline(
                timeline(lambda: events, tier, summary.budget_bytes, cells=cells), console
            )
        case "peak":
            render_moment(peak_moment(lambda: events, tier), console)
        case "diff":
            found = diff(summary, summarise_events(slower(events), header))
            render_diff(attrs.evolve(found, before="old", after="new"), console)
        case "events":
            render_events(events, out, width=width)
        case "live":
            draw_live(events[: len(events) * 2 // 3], header, console)
        case "check":
            render_check(check(write(events, header)), console)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


@pytest.mark.parametrize("view", VIEWS)
class TestEveryView:
    """The same rules for all of them."""

    @pytest.mark.parametrize("width", [80, 120])
    def test_is_what_was_seen(self, run, header, write, view, width) -> None:
        """The text at this width is exactly the one in `screens`."""
        text = show(view, run, header, write, width)
        file = SCREENS / f"{view}-{width}.txt"
        if os.environ.get("UPDATE_SCREENS"):
            file.write_text(text)
        assert file.read_text() == text

    @pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 120, 200])
    def test_no_line_is_wider(self, run, header, write, view, width) -> None:
        """But for the command to copy; a timeline needs 44 cells."""
        lines = show(view, run, header, write, width).splitlines()
        room = max(width, 44) if view == "timeline" else width
        assert all(cell_len(line) <= room for line in lines if not line.startswith("hint"))

    def test_no_color(self, run, header, write, view, monkeypatch) -> None:
        """NO_COLOR takes the colours away."""
        monkeypatch.setenv("NO_COLOR", "1")
        text = show(view, run, header, write, force_terminal=True)
        assert not [code for code in ("[3", "[9", "[4") if f"\x1b{code}" in text]

    def test_hostile_names(self, run, header, write, view) -> None:
        """No control character reaches the terminal, and no markup is read."""
        words = ("stage", "name", "tier", "source", "topic", "text", "op")
        bad = [attrs.evolve(e, **{k: HOSTILE for k in words if hasattr(e, k)}) for e in run]
        hostile = {**header, "graph": HOSTILE, "device": HOSTILE, "budget_tier": HOSTILE}
        text = show(view, bad, {**hostile, "stages": [HOSTILE]}, write, 120)

        assert all(line.isprintable() for line in text.splitlines())
        assert r"\x1b[31m" in text

    def test_empty(self, header, write, view) -> None:
        """A trace without events is no failure."""
        if view == "peak":
            assert peak_moment(list, GPU) is None
        else:
            assert "\x00" not in show(view, [], header, write)


def test_summary_of_a_file_and_of_its_events_agree(run, header, write) -> None:
    """The screens above are those of files."""
    found = summarise(write(run, header))
    said = attrs.evolve(summarise_events(run, header), path=found.path, status="done",
                        file_bytes=found.file_bytes)  # fmt: skip
    assert found == said
