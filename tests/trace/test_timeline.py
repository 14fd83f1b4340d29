"""Memory over time: cells that hold the most, rows that are the heaviest, a bound on both."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from wanflow.trace.cells import Window
from wanflow.trace.events import Kind, Move, Verb, Workspace
from wanflow.trace.levels import levels
from wanflow.trace.timeline import timeline

GIB, SECOND = 2**30, 10**9
GPU = "cuda:0"


class TestWhole:
    """The tier as a whole."""

    def test_level_is_the_most_of_each_cell(self, run) -> None:
        """Cells of ten seconds; the peak is in those of the transformer."""
        found = timeline(lambda: run, GPU, cells=23)
        assert [n // GIB for n in found.level] == [3] + [7] * 22
        assert 7 * GIB == found.peak_bytes == max(found.level)

    def test_stage_at_work(self, run) -> None:
        """Named for each cell."""
        assert timeline(lambda: run, GPU, cells=23).stages[::22] == ("encode", "denoise")

    def test_only_a_stage(self, run) -> None:
        """Its time alone."""
        found = timeline(lambda: run, GPU, stage="encode", cells=7)
        assert (found.began_seconds, found.ended_seconds) == (1.0, 8.0)
        assert list(found.level) == [3 * GIB] * 7

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50)), min_size=1, max_size=30))
    def test_no_peak_is_lost(self, moves) -> None:
        """However narrow: the highest cell is the highest level."""
        events, now, held = [], 0, []
        for at, (gap, nbytes) in enumerate(moves):
            free = held and gap % 2
            verb = Verb.FREE if free else Verb.PLACE
            moved = held.pop() if free else (f"x{at}", nbytes)
            now += -moved[1] if free else moved[1]
            if not free:
                held.append(moved)
            when = at * 10 + gap
            events.append(
                Move(verb, Kind.VALUE, moved[0], "s", 0, "", GPU, moved[1], now, when, when, 0, "")
            )
        # What is there for no time at all is in no cell.
        found_levels = list(levels(events))
        lasting = [a.resident_bytes for a, b in pairwise(found_levels) if b.at_ns > a.at_ns]
        for cells in (1, 3, 50):
            found = timeline(lambda: events, GPU, cells=cells, rows=100)
            assert max([*lasting, found_levels[-1].resident_bytes]) == found.peak_bytes
            assert all(row.most_bytes >= max(row.cells) for row in found.rows)


class TestRows:
    """A row an object."""

    def test_an_object_is_there_while_it_is(self, run) -> None:
        """From when its room was taken until it was let go."""
        found = timeline(lambda: run, GPU, cells=23)
        rows = {(row.name, row.kind): row for row in found.rows}
        encode = rows["text.layers.0", "weights"]
        assert list(encode.cells) == [2 * GIB] + [0] * 22
        assert rows["dit", "weights"].cells[0] == 0
        assert rows["call dit", "workspace"].times == 2

    def test_the_heaviest_are_chosen(self, run) -> None:
        """Bytes times time; what is left out is counted."""
        found = timeline(lambda: run, GPU, rows=2)
        assert {("dit", "weights"), ("call dit", "workspace")} == {
            (r.name, r.kind) for r in found.rows
        }
        assert found.left_out == 3

    def test_other_tiers_are_others(self, run) -> None:
        """The host has one object."""
        assert [row.name for row in timeline(lambda: run, "cpu").rows] == ["encode.text"]


def test_window_clamps() -> None:
    """What lies outside is at an edge; what only touches fills nothing."""
    window = Window(10, 20, 5)
    assert tuple(map(window.at, (0, 10, 15, 20, 99))) == (0, 0, 2, 4, 4)
    cells = [0] * 5
    window.fill(cells, 0, 9, 7)
    assert cells == [0] * 5


def test_a_call_is_a_row() -> None:
    """Its workspace lies between its begin and its end."""
    events = [Workspace("c", "s", 0, GPU, 5, 5, 40, 60), Workspace("c", "s", 1, GPU, 5, 5, 90, 100)]
    assert timeline(lambda: events, GPU, cells=10).rows[0].cells == (0, 0, 0, 0, 5, 5, 0, 0, 0, 5)
