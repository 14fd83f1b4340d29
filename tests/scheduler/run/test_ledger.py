"""The ledger: what it counts, refuses, gives back and writes down."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wanflow.errors import OutOfMemory
from wanflow.scheduler.run.ledger import Cause, Item, Ledger
from wanflow.trace import MemorySink
from wanflow.trace.events import Kind, Move, Verb, Workspace

CAUSE = Cause("denoise", 3, "next in line")
CALL = Cause("denoise", 3, "block")
GPU = "cuda:0"


def nothing(_call) -> None:
    """Do nothing."""


def fail(error) -> None:
    """Fail by it."""
    raise error


def item(key="a", nbytes=40) -> Item:
    """Make a segment."""
    return Item(key, f"name of {key}", Kind.WEIGHTS, nbytes)


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def ledger(sink) -> Ledger:
    """Open a ledger of 100 bytes whose clock ticks once a look."""
    ticks = iter(range(1000))
    return Ledger({GPU: 100, "host": 30}, sink, check=True, clock=lambda: next(ticks))


def place(ledger, thing, tier=GPU, source="disk") -> None:
    """Bring something whose bytes are there at once."""
    with ledger.bring(Verb.PLACE, thing, tier, source, CAUSE):
        pass


class TestBring:
    """Something comes to a tier."""

    def test_counts(self, ledger) -> None:
        """On its tier, and on no other."""
        place(ledger, item())

        assert ledger.holds(GPU, "a")
        assert (ledger.resident_bytes(GPU), ledger.resident_bytes("host")) == (40, 0)

    def test_is_written_down(self, ledger, sink) -> None:
        """What, why, from where, how long, and what lies there afterwards."""
        place(ledger, item("b", 5))
        place(ledger, item())

        assert sink.events[1] == Move(
            Verb.PLACE, Kind.WEIGHTS, "name of a", "denoise", 3, "disk", GPU, 40, 45, 3, 4, 0,
            "next in line",
        )  # fmt: skip

    def test_what_was_made_waits_for_nobody(self, ledger, sink) -> None:
        """Only the disk lets a run wait."""
        place(ledger, item(), source="")

        assert sink.events[0].waited_ns == 0

    def test_counts_before_the_bytes_arrive(self, ledger, sink) -> None:
        """Room is taken first; the event comes when it is done."""
        with ledger.bring(Verb.STREAM, item(), GPU, "disk", CAUSE):
            assert (ledger.resident_bytes(GPU), sink.events) == (40, [])

    def test_past_the_budget_is_refused(self, ledger, sink) -> None:
        """The message has the numbers; nothing has changed."""
        place(ledger, item("b", 70))

        with pytest.raises(OutOfMemory, match=r"name of a needs 40 .* 30 of 100 are free"):
            place(ledger, item())

        assert (ledger.resident_bytes(GPU), len(sink.events)) == (70, 1)
        assert not ledger.holds(GPU, "a")

    def test_exactly_full_is_fine(self, ledger) -> None:
        """A budget may be used up."""
        place(ledger, item(nbytes=100))

        assert ledger.resident_bytes(GPU) == 100

    def test_twice_is_our_own_fault(self, ledger) -> None:
        """A plan that brings what is there is wrong."""
        place(ledger, item())

        with pytest.raises(AssertionError, match="a is on cuda:0 already"):
            place(ledger, item())

    def test_failed_bringing_is_taken_out(self, ledger, sink) -> None:
        """As if it had never been, but for the peak."""
        with (
            pytest.raises(OSError, match="bad sector"),
            ledger.bring(Verb.PLACE, item(), GPU, "disk", CAUSE),
        ):
            raise OSError("bad sector")

        assert (ledger.resident_bytes(GPU), sink.events) == (0, [])
        assert not ledger.holds(GPU, "a")
        ledger.check_integrity()


class TestFree:
    """Something leaves a tier."""

    def test_gives_the_room_back(self, ledger, sink) -> None:
        """And says what is left."""
        place(ledger, item("b", 5))
        place(ledger, item())
        ledger.free("a", GPU, CAUSE)

        event = sink.events[-1]
        assert (
            event.verb, event.source, event.tier, event.nbytes, event.resident_bytes,
        ) == (Verb.FREE, "", GPU, 40, 5)  # fmt: skip
        assert ledger.resident_bytes(GPU) == 5

    def test_what_is_not_there(self, ledger) -> None:
        """A plan that frees twice is wrong."""
        with pytest.raises(KeyError):
            ledger.free("a", GPU, CAUSE)

    def test_everything_on_a_tier(self, ledger, sink) -> None:
        """Each item with an event of its own; other tiers keep theirs."""
        place(ledger, item("h", 7), "host")
        place(ledger, item())
        place(ledger, item("b", 5))
        ledger.free_all(GPU, CAUSE)

        assert (ledger.resident_bytes(GPU), ledger.resident_bytes("host")) == (0, 7)
        assert [event.resident_bytes for event in sink.events[-2:]] == [5, 0]


class TestWorkspace:
    """Room for one call."""

    def test_is_there_while_the_call_runs(self, ledger) -> None:
        """And no longer."""
        seen = []
        ledger.work(lambda _: seen.append(ledger.resident_bytes(GPU)), None, 60, GPU, CALL)

        assert seen == [60]
        assert ledger.resident_bytes(GPU) == 0

    def test_is_written_down(self, ledger, sink) -> None:
        """With what lay there at its peak."""
        place(ledger, item())
        ledger.work(nothing, None, 60, GPU, CALL)

        assert sink.events[-1] == Workspace("block", "denoise", 3, GPU, 60, 100, 3, 4)

    def test_past_the_budget_is_refused(self, ledger, sink) -> None:
        """Before the call."""
        place(ledger, item())

        with pytest.raises(OutOfMemory, match=r"block needs 61 .* 60 of 100"):
            ledger.work(pytest.fail, "it ran", 61, GPU, CALL)

        assert ledger.resident_bytes(GPU) == 40

    def test_is_released_when_the_call_fails(self, ledger, sink) -> None:
        """A call that failed has no event."""
        with pytest.raises(ValueError, match="shape"):
            ledger.work(fail, ValueError("shape"), 60, GPU, CALL)

        assert (ledger.resident_bytes(GPU), sink.events) == (0, [])


class TestPeaks:
    """The most that ever was."""

    def test_has_workspaces_in_it(self, ledger) -> None:
        """They are room like any other."""
        place(ledger, item())
        ledger.work(nothing, None, 20, GPU, CALL)
        ledger.free("a", GPU, CAUSE)

        assert ledger.peak_bytes(GPU) == 60

    def test_of_a_turn_starts_from_what_lies_there(self, ledger) -> None:
        """Asking for it starts the next one."""
        place(ledger, item("b", 10))
        place(ledger, item())
        ledger.free("a", GPU, CAUSE)

        assert [ledger.take_turn_peak_bytes(GPU) for _ in range(2)] == [50, 10]


def test_integrity_names_both_sides(ledger) -> None:
    """What is lost is said in bytes."""
    place(ledger, item())
    ledger._tiers[GPU].free_bytes -= 1

    with pytest.raises(AssertionError, match=r"resident 40 \+ free 59 is not the budget 100"):
        ledger.check_integrity()


def break_if(fails) -> None:
    """Fail, if so."""
    if fails:
        raise OSError


class Moves(RuleBasedStateMachine):
    """Any order of moves: the ledger counts as a dict does, and its events add up."""

    def __init__(self) -> None:
        super().__init__()
        self.sink = MemorySink()
        self.ledger = Ledger({GPU: 100}, self.sink, check=True)
        self.there: dict[str, int] = {}

    @rule(key=st.sampled_from("abcdef"), nbytes=st.integers(0, 60), fails=st.booleans())
    def bring(self, key, nbytes, fails) -> None:
        fits = key not in self.there and sum(self.there.values()) + nbytes <= 100
        try:
            with self.ledger.bring(Verb.PLACE, item(key, nbytes), GPU, "", CAUSE):
                assert fits
                break_if(fails)
            self.there[key] = nbytes
        except (AssertionError, OutOfMemory):
            assert not fits
        except OSError:
            assert fails

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def free(self, data) -> None:
        key = data.draw(st.sampled_from(sorted(self.there)))
        self.ledger.free(key, GPU, CAUSE)
        del self.there[key]

    @rule(nbytes=st.integers(0, 60), fails=st.booleans())
    def work(self, nbytes, fails) -> None:
        fits = sum(self.there.values()) + nbytes <= 100
        try:
            self.ledger.work(break_if, fails, nbytes, GPU, CALL)
            assert fits
        except OutOfMemory:
            assert not fits
        except OSError:
            assert fails

    @invariant()
    def adds_up(self) -> None:
        self.ledger.check_integrity()
        moves = [e for e in self.sink.events if isinstance(e, Move)]
        signed = (-e.nbytes if e.verb is Verb.FREE else e.nbytes for e in moves)
        resident = sum(self.there.values())
        assert resident == self.ledger.resident_bytes(GPU) == sum(signed)
        assert not moves or moves[-1].resident_bytes == resident


TestMoves = Moves.TestCase
TestMoves.settings = settings(max_examples=60, stateful_step_count=25)
