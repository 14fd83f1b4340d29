"""What is resident, event by event: by kind, by object, at the peak and at any other time."""

import attrs
import pytest

from wanflow.trace import levels as followed
from wanflow.trace.by_kind import KINDS, ByKind
from wanflow.trace.events import Kind, Move, Verb, Workspace
from wanflow.trace.levels import MORE, Residency, levels
from wanflow.trace.moment import moment_at, peak_moment

GIB, SECOND = 2**30, 10**9
GPU = "cuda:0"


def move(verb, name, nbytes, resident, at=0, kind=Kind.VALUE, stage="s"):
    """Make a move that takes no time."""
    return Move(verb, kind, name, stage, 0, "", GPU, nbytes, resident, at, at, 0, "")


class TestLevels:
    """The bytes of a tier over time."""

    def test_a_call_goes_up_and_down(self, run) -> None:
        """Its workspace is there from its begin to its end, though it is written at the end."""
        found = [(each.at_ns // SECOND, each.resident_bytes) for each in levels(run[:3])]
        assert found == [(0, 2 * GIB), (1, 3 * GIB), (8, 2 * GIB), (8, 0)]

    def test_every_byte_has_a_kind(self, run) -> None:
        """Nothing is left over in a run that writes all down."""
        assert not [each for each in levels(run) if each.by_kind.other_bytes]

    def test_slack_is_told_apart(self) -> None:
        """What the allocator takes of a workspace is no workspace."""
        during, after = levels([Workspace("c", "s", 0, GPU, 10, 10, 0, 5, 3)])
        assert during.by_kind == ByKind(workspace_bytes=7, slack_bytes=3)
        assert (after.by_kind, after.resident_bytes) == (ByKind(), 0)


class TestHoldings:
    """Objects that come and go."""

    def test_two_of_one_name_are_counted_together(self) -> None:
        """The old and the new latents are here at once; one goes, one stays."""
        follow = Residency()
        for event in [
            move(Verb.PLACE, "x", 4, 4),
            move(Verb.PLACE, "x", 6, 10),
            move(Verb.FREE, "x", 4, 6),
        ]:
            follow.see(event)
        (held,) = follow.on(GPU).objects.values()
        assert held.nbytes == 6

    def test_what_never_came_is_a_stray(self) -> None:
        """It is counted, and nothing goes below zero."""
        follow = Residency()
        follow.see(move(Verb.FREE, "x", 4, 0))
        assert (follow.on(GPU).stray_bytes, follow.on(GPU).nbytes) == (4, 0)

    def test_too_many_names_are_kept_under_one(self, monkeypatch) -> None:
        """A hostile trace can't fill the memory; its bytes are all counted."""
        monkeypatch.setattr(followed, "MOST_OBJECTS", 3)
        follow = Residency()
        for number in range(10):
            follow.see(move(Verb.PLACE, f"x{number}", 1, number + 1))
        follow.see(move(Verb.FREE, "x9", 1, 9))
        holdings = follow.on(GPU)
        assert len(holdings.objects) == 4
        assert holdings.objects[Kind.VALUE, MORE].nbytes == 6
        assert holdings.nbytes == 9


class TestMoment:
    """Who was there."""

    def test_the_peak(self, run) -> None:
        """The first of the fullest moments, with the call at work as an object."""
        found = peak_moment(lambda: run, GPU)
        assert (found.resident_bytes, found.stage, found.at_seconds) == (7 * GIB, "denoise", 13.0)
        assert [(each.name, each.kind) for each in found.objects] == [
            ("dit", "weights"),
            ("dit", "workspace"),
            ("encode.text", "value"),
        ]
        assert found.by_stage == {"denoise": 6 * GIB, "encode": GIB}

    def test_objects_add_up(self, run) -> None:
        """By object, by stage, by kind: the same bytes."""
        found = peak_moment(lambda: run, GPU)
        assert found.resident_bytes == sum(found.by_kind[kind] for kind in KINDS)
        assert found.by_kind.other_bytes == 0
        assert found.resident_bytes == sum(each.nbytes for each in found.objects)
        assert found.resident_bytes == sum(found.by_stage.values())

    @pytest.mark.parametrize(
        ("seconds", "gib"), [(0.5, 2), (1, 3), (7.9, 3), (8, 1), (50, 7), (228, 4), (230, 3)]
    )
    def test_at_a_time(self, run, seconds, gib) -> None:
        """A call is at work from its begin until just before its end."""
        found = moment_at(lambda: run, GPU, int(seconds * SECOND))
        assert gib * GIB == found.resident_bytes == sum(each.nbytes for each in found.objects)

    def test_before_anything(self, run) -> None:
        """There is nobody to tell of."""
        later = [attrs.evolve(run[0], began_ns=5, ended_ns=5)]
        assert moment_at(lambda: later, GPU, 4) is None
        assert peak_moment(lambda: run, "cuda:9") is None

    def test_a_call_at_the_peak_of_a_move(self) -> None:
        """Bytes that the moves don't explain are the call's that is written later."""
        events = [
            move(Verb.PLACE, "x", 4, 14, 5),
            Workspace("c", "s", 0, GPU, 10, 10, 0, 9),
        ]
        found = peak_moment(lambda: events, GPU)
        assert (found.by_kind.workspace_bytes, found.by_kind.other_bytes) == (10, 0)
