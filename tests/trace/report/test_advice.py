"""Each piece of advice is a plan: planning with its options gives what it says."""

import functools
import shlex

import attrs
import pytest

from wanflow.cli.options import gather
from wanflow.session import advise, plan
from wanflow.trace import TraceReader
from wanflow.trace.report.advice import Advised, priority


def header(path):
    """Give the header of a trace."""
    with TraceReader(path) as reader:
        return reader.header


def planned(words):
    """Plan what a command line asks for."""
    keys = {"-i": "inputs", "--precision": "precision", "--set": "settings", "--pin": "pins"}
    given: dict[str, object] = {"graph": words[2]}
    rest = iter(words[3:])
    machine = None
    for word in rest:
        if word == "--machine":
            machine = next(rest)
        elif word in keys:
            given.setdefault(keys[word], []).append(next(rest))
        else:
            given[word.removeprefix("--")] = next(rest)
    # The last one given counts, as on the command line of an option that is given once.
    inputs = {each.partition("=")[0]: each for each in given.pop("inputs", [])}
    return plan(attrs.evolve(gather(**given, inputs=list(inputs.values())), machine=machine))


@attrs.frozen
class Confirmed:
    """Advice, and the reports of the plans that its options give."""

    advised: Advised
    base: dict
    reports: list[dict]


@pytest.fixture(scope="session")
def confirmed(request):
    """Advise on a run, and plan it all again from the words of the command line.

    Knobs that take minutes to profile are left to the tiny graph.
    """

    @functools.cache
    def confirm(which):
        simulated = which == "simulated"
        path = request.getfixturevalue("advised_on" if simulated else "ran")
        advised = advise(header(path), quick=simulated)
        words = shlex.split(advised.command)
        reports = [planned([*words, *each.options]).report for each in advised.advice]
        return Confirmed(advised, planned(words).report, reports)

    return confirm


@pytest.mark.parametrize("which", [pytest.param("simulated", marks=pytest.mark.wide), "ran"])
class TestConfirmed:
    """On a run of the tiny graph and on a simulated one at full size."""

    def test_the_base_is_the_plan_of_the_run(self, confirmed, which) -> None:
        """Its command gives its peak and its time."""
        found, report = confirmed(which).advised, confirmed(which).base
        assert found.reason == ""
        assert report["predicted_peak_bytes"] == found.peak_bytes
        assert report["predicted_seconds"] == pytest.approx(found.seconds)

    def test_each_saves_what_it_says(self, confirmed, which) -> None:
        """A plan for exactly its peak may be smaller yet; it is never larger or slower."""
        found = confirmed(which).advised
        assert found.advice
        for advice, report in zip(found.advice, confirmed(which).reports, strict=True):
            saved = found.peak_bytes - report["predicted_peak_bytes"]
            took = report["predicted_seconds"] - found.seconds
            assert report["feasible"]
            assert saved >= advice.saves_bytes
            assert took <= advice.costs_seconds + 1e-6
            assert saved == pytest.approx(advice.saves_bytes, rel=0.02)
            assert advice.peak_bytes == found.peak_bytes - advice.saves_bytes
            assert advice.seconds == pytest.approx(found.seconds + advice.costs_seconds)

    def test_priorities_are_in_order(self, confirmed, which) -> None:
        """High ones first; no change of the picture is more than low."""
        advice = confirmed(which).advised.advice
        ranks = [("high", "medium", "low").index(each.priority) for each in advice]
        assert sorted(ranks) == ranks
        assert {each.priority for each in advice if each.picture == "other"} <= {"low"}


class TestPriority:
    """By what is gained against what it costs."""

    @pytest.mark.parametrize(
        ("saves", "costs", "picture", "rank"),
        [
            (50, 1.0, "same", "high"),
            (50, 20.0, "rounding", "medium"),
            (50, 80.0, "same", "low"),
            (5, 0.0, "same", "medium"),
            (50, 0.0, "other", "low"),
            (0, -50.0, "same", "high"),
            (-20, -50.0, "same", "medium"),
            (0, 0.0, "same", None),
            (-20, -1.0, "same", None),
            (-20, 10.0, "same", None),
        ],
    )
    def test_of_a_change(self, saves, costs, picture, rank) -> None:
        """A run of 100 bytes and 100 seconds."""
        assert rank == priority(saves, costs, 100, 100.0, picture)


UNKNOWN = {
    "graph": "no-such-graph", "inputs": {}, "vram": "1GiB", "ram": None, "device": "cpu",
    "precision": [], "settings": [], "pins": [], "exact": False, "machine": None,
}  # fmt: skip


@pytest.mark.parametrize("request_said", [None, 7, {}, {"graph": 5, "inputs": {}}, UNKNOWN])
def test_what_cannot_be_planned_says_why(request_said) -> None:
    """A header is anybody's."""
    found = advise({"request": request_said})
    assert found.reason
    assert not found.advice
