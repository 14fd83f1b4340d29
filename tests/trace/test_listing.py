"""Events as lines and as objects, and the choice among them."""

import io
import json
from itertools import count

import pytest

from wanflow.trace import EventFilter, event_dict, render_events
from wanflow.trace.events import Kind, Move, Note, Verb
from wanflow.trace.listing import event_line, select

HOSTILE = "\x1b[31m[red]\r\n\u202eevil\x07"


class TestSelect:
    """What the options choose."""

    @pytest.mark.parametrize(
        ("wanted", "number"),
        [
            (EventFilter(), 16),
            (EventFilter(verb=Verb.PLACE), 2),
            (EventFilter(kind=Kind.WEIGHTS), 3),
            (EventFilter(kind=Kind.WORKSPACE), 3),
            (EventFilter(stage="encode"), 5),
            (EventFilter(name="layers"), 3),
            (EventFilter(name="layers", kind=Kind.WEIGHTS, verb=Verb.FREE), 1),
            (EventFilter(limit=4), 4),
            (EventFilter(stage="none"), 0),
        ],
    )
    def test_chooses(self, run, wanted, number) -> None:
        """Each option narrows the choice."""
        assert number == len(list(select(run, wanted)))

    def test_stops_at_the_limit(self, numbered) -> None:
        """Not one event more is read than is shown."""
        endless = map(numbered, count())

        assert len(list(select(endless, EventFilter(limit=3)))) == 3
        assert next(endless).step == 3


class TestLines:
    """One line an event."""

    def test_run(self, run) -> None:
        """The columns stand under each other; the text is pinned."""
        out = io.StringIO()

        assert render_events(run[:5] + run[13:], out) == 8
        assert out.getvalue() == (
            "    0.000000 s 1000.000 ms  stream    weights   disk>cuda:0      2.00 GiB   2.00 GiB"
            "  encode[0]      text.layers.0  next in line  waited 4000.000 ms\n"
            "    1.000000 s 7000.000 ms  workspace workspace cuda:0           1.00 GiB   3.00 GiB"
            "  encode[0]      text.layers.0\n"
            "    8.000000 s    0.000 ms  free      weights   cuda:0           2.00 GiB        0 B"
            "  encode[0]      text.layers.0  last use\n"
            "    8.000000 s    0.000 ms  place     value     cuda:0           1.00 GiB   1.00 GiB"
            "  encode[0]      encode.text  made\n"
            "    0.000000 s    12.000 s  stage                                           3.00 GiB"
            "  encode         encode_text order=layers\n"
            "  230.000000 s              memory              cuda:0           7.12 GiB   3.00 GiB"
            "                 counted by allocator\n"
            "  230.000000 s              memory              cpu              1.00 GiB   1.00 GiB"
            "                 counted by rss\n"
            "  231.000000 s              note                                                    "
            "                 re-plan: the device is fuller than planned\n"
        )

    def test_hostile_names_stay_on_their_line(self) -> None:
        """Nothing that a name holds reaches the terminal as a command."""
        bad = HOSTILE
        event = Move(Verb.FREE, Kind.VALUE, bad, bad, 0, bad, bad, 1, 1, 0, 0, 0, bad)

        line = event_line(event)

        assert line.isprintable()
        assert r"\x1b[31m[red]\r\n\u202eevil\x07" in line


class TestObjects:
    """One JSON object an event."""

    def test_fields_are_keys(self, run) -> None:
        """The kind, then every field."""
        assert event_dict(run[7]) == {
            "event": "step", "stage": "denoise", "index": 0, "total": 2,
            "began_ns": 13 * 10**9, "ended_ns": 100 * 10**9,
            "resident_bytes": 4 * 2**30, "measured_peak_bytes": 0,
            "exchanging_ns": 0,
        }  # fmt: skip

    def test_one_a_line(self, run) -> None:
        """Each line is an object by itself, in plain ASCII."""
        out = io.StringIO()
        render_events([*run, Note(HOSTILE, "\u2028", 0)], out, as_json=True)
        lines = out.getvalue().split("\n")

        assert len(lines) == len(run) + 2
        assert [json.loads(line)["event"] for line in lines[:-1]][:2] == ["move", "workspace"]
        assert out.getvalue().isascii()
