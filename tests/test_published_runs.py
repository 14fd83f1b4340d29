"""Seconds of cards that nobody here has, against runs that others published."""

from statistics import median

import pytest

from scripts.fit_cards import MARKS, PAGE, Fit, costs_of, part
from wanflow.scheduler.machine.cards import CARDS, OFF_PERCENT, REACHED
from wanflow.scheduler.machine.datasheets import published_error
from wanflow.session import Request, plan


@pytest.fixture(scope="module")
def result():
    """Read the runs, the costs of their graphs and the shares."""
    return Fit.of_files()


def off(result, *, held_out):
    """Say how far each run of a part is off."""
    return [abs(result.off(run)) for run in result.runs if run.held_out == held_out]


class TestRuns:
    """What is compared with."""

    def test_are_many_on_many_cards(self, result):
        """Of every kind of card that has a share."""
        assert len(result.runs) > 50
        assert len({run.card for run in result.runs}) > 10
        assert {run.kind for run in result.runs} == set(REACHED)

    def test_a_third_of_each_architecture_is_held_out(self, result):
        """Two thirds of each are fitted to."""
        by_chip = {}
        for run in result.runs:
            by_chip.setdefault(CARDS[run.card].capability, []).append(run.held_out)
        for held_out in by_chip.values():
            assert sum(held_out) == (len(held_out) + 1) // 3

    def test_each_that_is_not_used_says_why(self, result):
        """Where it is from, too."""
        assert all(source["why"] and source["source"] for source in result.data["listed"])


class TestFit:
    """What came of it."""

    def test_the_shares_are_what_a_fit_finds(self, result):
        """Again, from the middle of all bounds."""
        assert result.again() == pytest.approx(result.shares, abs=0.004)

    def test_named_machines_have_them(self, result):
        """To the digit, and how far off they may be."""
        assert result.reached() == REACHED
        assert result.off_percent() == OFF_PERCENT

    def test_what_was_held_out_is_within_a_fifth_and_at_the_median_within_a_tenth(self, result):
        """None of it had a part in the shares."""
        assert max(off(result, held_out=True)) < 0.2
        assert median(off(result, held_out=True)) < 0.1

    def test_what_was_fitted_is_within_a_fifth(self, result):
        """All of it."""
        assert max(off(result, held_out=False)) < 0.2

    def test_each_run_is_within_what_the_plan_says_of_its_card(self, result):
        """The band that it prints."""
        for run in result.runs:
            assert abs(result.off(run)) <= published_error(CARDS[run.card].machine()) / 100


class TestPage:
    """docs/machines.md."""

    def test_has_every_run(self, result):
        """As the script makes it: mend with `python -m scripts.fit_cards --write`."""
        text = PAGE.read_text(encoding="utf-8")
        written = text.partition(MARKS[0])[2].partition(MARKS[1])[0]
        assert written.strip() == "".join(part(result)).strip()

    @pytest.mark.parametrize("kind", REACHED)
    def test_has_what_each_kind_reaches(self, kind):
        """In percent."""
        share = REACHED[kind]
        shares = (share.gemm, share.attention, share.conv, share.memory)
        line = " | ".join(f"{percent:.0%}".replace("%", " %") for percent in shares)
        assert f"\n| {kind} | {line} |\n" in PAGE.read_text(encoding="utf-8")


@pytest.mark.wide
class TestPlanned:
    """The table is what a plan says."""

    def test_costs_are_those_of_the_graph(self, result):
        """Else `scripts/cards/costs.json` is old: delete it and run with `--costs --fit`."""
        assert costs_of("t2v-1.3b", "832*480", 81) == result.costs["t2v-1.3b:832*480:81"]

    def test_a_plan_says_the_table_and_the_weights_to_load(self, result):
        """And how far off published runs were."""
        run = next(r for r in result.runs if (r.card, r.graph) == ("rtx4090", "t2v-1.3b"))
        report = plan(Request("t2v-1.3b", {"prompt": ""}, machine="rtx4090")).report
        assert report["predicted_seconds"] == pytest.approx(result.seconds(run), rel=0.02)
        assert report["published_error_percent"] == OFF_PERCENT["rtx4090"]
