"""One figure of what a run took, whoever reads it off the trace."""

import io

import pytest
from rich.console import Console

from wanflow.trace import summarise_events
from wanflow.trace.events import Memory, Move, Verb, Workspace
from wanflow.trace.measured import MeasuredPeak, MeasuredPeaks
from wanflow.trace.views.summary import measured_by, render_summary

MIB = 2**20
CARD = "cuda:0"
HEADER = {"budget_tier": CARD, "budget_bytes": 1000 * MIB, "overhead_bytes": 300 * MIB}


def peak_of(*figures, overhead=300 * MIB) -> MeasuredPeak | None:
    """Hear figures of a card, each a source and its MiB."""
    peaks = MeasuredPeaks()
    for source, mib in figures:
        peaks.emit(Memory(source, CARD, 0, mib * MIB, 0))
    return peaks.peak(CARD, overhead)


class TestOnACard:
    """Everything that the process takes there."""

    def test_what_lies_beside_is_added(self) -> None:
        """The allocator's memory, cuBLAS' workspace in it, and the driver's word for the rest."""
        found = peak_of(("allocator", 500), ("reserved", 600), ("context", 250))

        assert found == MeasuredPeak("reserved", 850 * MIB, 250 * MIB)

    def test_others_may_be_in_it(self) -> None:
        """That is told; NVML's word goes before it."""
        both = (("reserved", 600), ("context+others", 900))

        assert peak_of(*both) == MeasuredPeak("reserved", 1500 * MIB, 900 * MIB, with_others=True)
        assert peak_of(*both, ("context", 250)).nbytes == 850 * MIB

    def test_nobody_asked_the_driver(self) -> None:
        """An older trace: what was set aside stands for it."""
        assert peak_of(("reserved", 600)) == MeasuredPeak("reserved", 900 * MIB, 300 * MIB)

    def test_a_tier_without_a_figure(self) -> None:
        """Nobody measured."""
        assert peak_of(("simulated", 600)) is None


def test_on_a_cpu_nothing_lies_beside() -> None:
    """What is tracked is all."""
    assert peak_of(("tracked", 5), ("rss", 9), overhead=0) == MeasuredPeak("tracked", 5 * MIB)


class TestVerdict:
    """Against the whole budget."""

    def summary(self, reserved, beside, given_out=0, source="context"):
        """Sum up a run that took so many MiB."""
        return summarise_events(
            [
                Workspace("call", "denoise", 0, CARD, given_out * MIB, given_out * MIB, 0, 1),
                Memory("reserved", CARD, 0, reserved * MIB, 1),
                Memory(source, CARD, 0, beside * MIB, 1),
            ],
            HEADER,
        )

    @pytest.mark.parametrize(
        ("figures", "over"),
        [((700, 300, 700), 0), ((700, 301, 700), 1), ((900, 600, 0), 500), ((1, 1, 702), 2)],
    )
    def test_over_by_how_much(self, figures, over) -> None:
        """The higher of what was measured and what was given out, with what is set aside."""
        assert self.summary(*figures).over_budget_bytes == over * MIB

    def test_stages_as_the_plan_says_them(self) -> None:
        """With what is set aside."""
        summary = self.summary(700, 300, 700)
        (stage,) = summary.stages

        assert (stage.peak_bytes, stage.whole_peak_bytes) == (700 * MIB, 1000 * MIB)
        assert summary.whole_peak_bytes == 1000 * MIB

    def test_says_what_is_in_it(self) -> None:
        """And whose that may be."""
        assert measured_by(self.summary(700, 300)) == "reserved, 300 MiB beside it"
        others = self.summary(700, 300, source="context+others")
        assert measured_by(others) == "reserved, 300 MiB beside it on the card"


def test_an_allocator_that_asks_again_is_told() -> None:
    """It says that the plan was too tight; nothing is said where there was none."""
    quiet = Memory("reserved", CARD, 0, MIB, 1)
    busy = Memory("reserved", CARD, 0, MIB, 2, 7, 1)
    found = summarise_events([quiet, busy, quiet], HEADER)
    out = io.StringIO()
    render_summary(found, Console(file=out, width=120))

    assert (found.alloc_retries, found.alloc_failures) == (7, 1)
    assert "the allocator asked the driver again 7 times  1 times in vain" in out.getvalue()
    assert summarise_events([quiet], HEADER).alloc_retries == 0


def test_verbs_of_moves_are_untouched() -> None:
    """Only what others counted is heard."""
    peaks = MeasuredPeaks()
    peaks.emit(Move(Verb.FREE, "value", "x", "s", 0, "", CARD, 1, 1, 0, 0, 0, ""))
    assert not peaks.highest
