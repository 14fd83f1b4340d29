"""The summary on a terminal: pinned at 80 and 120 columns, safe and legible at any width."""

import io

import attrs
import pytest
from rich.cells import cell_len
from rich.console import Console

from wanflow.trace import summarise, summarise_events
from wanflow.trace.events import Move, Note
from wanflow.trace.views import render_summary

HOSTILE = "\x1b[31m[red]a[/red]\r\n\u202eevil\x07; rm -rf ~"

AT_80 = """\
t2v-1.3b on cuda:0  unfinished  3:51 (predicted 4:00, -4%)  16 events, 0 B
budget 8.00 GiB  predicted peak 7.00 GiB  measured peak 7.12 GiB (allocator)
  within budget
stage      wall  compute  waiting  moved in  moved out      peak  share  moves
encode   12.0 s   7.00 s   4.00 s  2.00 GiB        0 B  3.00 GiB     5%      3
denoise    3:38     3:35   1.00 s  3.00 GiB   1.00 GiB  7.00 GiB    94%      3
decode        -   0.00 s   0.00 s       0 B        0 B       0 B     0%      0
peak 7.00 GiB on cuda:0 in denoise at 13.0 s:  weights 3.00 GiB  values 1.00 GiB
  workspace 3.00 GiB
waited for transfers 5.00 s (2.2%)  most in encode
note: re-plan: the device is fuller than planned
hint: wanflow trace events TRACE --stage encode --kind weights
"""

AT_120 = """\
t2v-1.3b on cuda:0  unfinished  3:51 (predicted 4:00, -4%)  16 events, 0 B
budget 8.00 GiB  predicted peak 7.00 GiB  measured peak 7.12 GiB (allocator)  within budget
stage      wall  compute  waiting  moved in  moved out      peak  share  moves  steps  knobs
encode   12.0 s   7.00 s   4.00 s  2.00 GiB        0 B  3.00 GiB     5%      3         order=layers
denoise    3:38     3:35   1.00 s  3.00 GiB   1.00 GiB  7.00 GiB    94%      3    2/2  attn_rows=1024 cfg=serial
decode        -   0.00 s   0.00 s       0 B        0 B       0 B     0%      0
peak 7.00 GiB on cuda:0 in denoise at 13.0 s:  weights 3.00 GiB  values 1.00 GiB  workspace 3.00 GiB
waited for transfers 5.00 s (2.2%)  most in encode
note: re-plan: the device is fuller than planned
hint: wanflow trace events TRACE --stage encode --kind weights
"""  # noqa: E501


def show(summary, width=80, **options):
    """Render *summary* as text, without the blanks that fill a line."""
    out = io.StringIO()
    render_summary(summary, Console(file=out, width=width, **options))
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


class TestPinned:
    """The screens as people see them."""

    @pytest.mark.parametrize(("width", "text"), [(80, AT_80), (120, AT_120)])
    def test_run(self, run, header, width, text) -> None:
        """The text at this width is exactly this."""
        assert text == show(summarise_events(run, header), width)

    def test_cut_trace(self, write, run, header) -> None:
        """A cut trace says so, and what is lost."""
        path = write(run[:6], header, status=None)
        with path.open("ab") as file:
            file.write(b"\x92\xce")

        text = show(summarise(path), 120)

        assert "this trace is cut:  6 events read, 2 bytes lost  record 7: cut in its head" in text
        assert "  unfinished  " in text

    def test_damaged_trace(self, write, run) -> None:
        """A damaged trace points to what could be read."""
        path = write(run)
        path.write_bytes(path.read_bytes() + b"more")

        assert f"hint: wanflow trace events {path}" in show(summarise(path), 120)

    def test_empty_trace(self, write) -> None:
        """Little to say, and nothing that fails."""
        text = show(summarise(write([], {"simulated": True})))

        assert text.startswith("unnamed graph  done  simulated  0.00 s  0 events")
        assert "hint: wanflow trace events" in text


class TestWidth:
    """Any terminal."""

    @pytest.mark.parametrize("width", [20, 30, 40, 60, 79, 80, 100, 120, 200])
    def test_no_line_is_wider_and_no_number_breaks(self, run, header, width) -> None:
        """Columns go from the right; numbers stay whole, beside their unit."""
        lines = show(summarise_events(run, header), width).splitlines()

        assert all(cell_len(line) <= width for line in lines if not line.startswith("hint"))
        assert not [line for line in lines if line.strip() in ("GiB", "s", "B")]
        assert sum(line.startswith("stage ") for line in lines) == 1

    def test_long_names_are_cut(self, run, header) -> None:
        """A name of 64 letters does not push the numbers out."""
        long = [attrs.evolve(e, stage="s" * 64) if hasattr(e, "stage") else e for e in run]
        text = show(summarise_events(long, {**header, "stages": []}))

        assert "ssssssssssss..  " in text
        assert "  share" in text

    def test_wide_letters(self, run, header) -> None:
        """A name may take two cells a letter."""
        wide = [attrs.evolve(e, stage="去噪声" * 9) if hasattr(e, "stage") else e for e in run]
        text = show(summarise_events(wide, {**header, "stages": []}))

        assert all(cell_len(line) <= 80 for line in text.splitlines() if "hint" not in line)


class TestColour:
    """Colour adds, it never tells alone."""

    def test_over_budget_is_a_word(self, run, header) -> None:
        """And it is red where there is colour."""
        over = summarise_events(run, {**header, "budget_bytes": 7 * 2**30})

        assert "over budget by 128 MiB" in show(over)
        assert "\x1b[" not in show(over)
        colour = {"force_terminal": True, "color_system": "standard", "no_color": False}
        assert "\x1b[1;31m" in show(over, **colour)

    def test_no_color_is_respected(self, run, header, monkeypatch) -> None:
        """NO_COLOR takes the colours away."""
        monkeypatch.setenv("NO_COLOR", "1")
        over = summarise_events(run, {**header, "budget_bytes": 7 * 2**30})

        assert "31m" not in show(over, force_terminal=True)


class TestHostile:
    """Names in a trace are anybody's."""

    def test_nothing_reaches_the_terminal_as_a_command(self, run, header) -> None:
        """No control character, no markup, and a hint that is safe to paste."""
        bad = []
        for event in run:
            changes = {k: HOSTILE for k in ("stage", "name", "tier", "source") if hasattr(event, k)}
            bad.append(attrs.evolve(event, **changes))
        bad.append(Note(HOSTILE, HOSTILE, 0))
        hostile = {**header, "graph": HOSTILE, "device": HOSTILE, "budget_tier": HOSTILE}
        summary = summarise_events(bad, {**hostile, "stages": [HOSTILE]})

        text = show(summary, 120)

        assert all(line.isprintable() for line in text.splitlines())
        assert "[red]a[/red]" in text
        hint = next(line for line in text.splitlines() if line.startswith("hint"))
        assert "--stage '" in hint
        assert isinstance(bad[0], Move)
