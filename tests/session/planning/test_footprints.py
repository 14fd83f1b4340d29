"""Settings of the knobs that are planned with, where there are too many to plan them all."""

import itertools

import attrs
import pytest

from wanflow.scheduler.footprint.lifetimes import lifetimes
from wanflow.scheduler.plan.knob_search import seconds_of, slice_of
from wanflow.scheduler.plan.planner import plan
from wanflow.session import Request
from wanflow.session.planning import footprints as variants
from wanflow.session.planning.footprints import KnobProfiler, KnobSearch, ram_for
from wanflow.session.planning.planned import sweep
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare

TINY = Request("t2v-tiny", {"prompt": "x"}, device="cpu")
CARD = Request("t2v-1.3b", {"steps": 6, "frames": 9}, machine="rtx4090")
SOME = [(TINY, 0), (CARD, 0.2), (CARD, 0.5)]
MORE = [(TINY, 0.2), (TINY, 0.5), (TINY, 1), (CARD, 0), (CARD, 1)]


def prepared(request):
    """Bind a request's graph."""
    return prepare(request, find_place(request), to_run=False)


def both(request, monkeypatch, share):
    """The plan with every setting, and the one with those that were chosen."""
    ready = prepared(request)
    machine = ready.place.machine
    profiler = KnobProfiler(ready, machine.device)
    every = [profiler.footprint(knobs) for knobs in ready.knobs()]
    ends = plan(every, machine, None, ram_bytes=ram_for(every, ready.place.ram_bytes))
    budget = ends.minimum_bytes + int((ends.resident_bytes - ends.minimum_bytes) * share)
    wanted = plan(every, machine, budget, ram_bytes=ram_for(every, ready.place.ram_bytes))
    monkeypatch.setattr(variants, "_ALL", 0)
    chosen = KnobSearch(ready)
    return wanted, chosen.plan(chosen.at(budget), budget)


class TestChosen:
    """Groups of stages by themselves, on a few steps."""

    @pytest.mark.parametrize(
        ("request_", "share"), SOME + [pytest.param(*more, marks=pytest.mark.wide) for more in MORE]
    )
    def test_as_good_as_all(self, request_, share, monkeypatch) -> None:
        """The same minimum; the time of the best of all settings, to 1 %."""
        wanted, found = both(request_, monkeypatch, share)

        assert found.feasible
        assert wanted.minimum_bytes == found.minimum_bytes
        assert found.predicted_seconds <= wanted.predicted_seconds * 1.01

    def test_sweep_falls(self, monkeypatch) -> None:
        """More room is never slower, whatever was chosen where."""
        monkeypatch.setattr(variants, "_ALL", 0)
        rows = sweep(TINY).report["sweep"]
        seconds = [row["predicted_seconds"] for row in rows]

        assert all(row["feasible"] for row in rows)
        assert all(later <= earlier for earlier, later in itertools.pairwise(seconds))


class TestSlice:
    """A stage cut out of a graph."""

    def test_needs_what_it_needs_there(self) -> None:
        """Its calls' bytes are those of the whole graph, values that only pass by included."""
        found = prepared(TINY)
        whole = KnobProfiler(found, "cpu").footprint({})
        inside = [i for i, step in enumerate(whole.calls) if step.stage == "denoise"]
        _, *needs = lifetimes(slice_of(whole, ["denoise"])).need_bytes

        assert [lifetimes(whole).need_bytes[i] for i in inside] == needs

    def test_few_steps_stand_for_all(self) -> None:
        """The time of 8 steps from 4 is that of 8, to 1 %."""
        full = KnobSearch(prepared(TINY))
        few = KnobSearch(prepared(Request("t2v-tiny", {"prompt": "x", "steps": 4}, device="cpu")))
        plans = [v.plan([slice_of(v.at(0)[0], ["denoise"])], None) for v in (few, full)]

        assert plans[1].predicted_seconds == pytest.approx(
            seconds_of(plans[0], {"denoise": 8}), rel=0.01
        )


class TestRounding:
    """What rounds follows from the request, whatever the machine is known to do."""

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6])
    @pytest.mark.parametrize(
        "figures",
        [
            {"conv.float32": 1e9, "call_seconds": 1e-6},
            {"conv.float32": 4e12, "call_seconds": 1e-2},
            {"gemm.float32": 1e9, "attention.float32": 1e13, "kernel_seconds": 1e-3},
            {"disk_rate": 1e7, "cached_disk_rate": 2e7, "memory_rate": 1e11},
        ],
    )
    def test_no_time_decides(self, share, figures) -> None:
        """A machine that was learned to be quite another one has the same choices that round."""
        ready = prepared(TINY)
        search = KnobSearch(ready)
        ends = search.plan(search.at(0), None)
        budget = ends.minimum_bytes + int((ends.resident_bytes - ends.minimum_bytes) * share)
        wanted = search.plan(search.at(budget), budget).footprint.rounding
        place = ready.place
        taught = place.machine.with_figures(figures, "learned")
        other = KnobSearch(attrs.evolve(ready, place=attrs.evolve(place, machine=taught)))

        found = other.plan(other.at(budget), budget)
        assert found.feasible
        assert found.footprint.rounding == wanted

    def test_time_would_decide(self) -> None:
        """By those figures alone, other choices would be faster: the test above can fail."""
        ready = prepared(TINY)
        profiler = KnobProfiler(ready, "cpu")
        every = [profiler.footprint(knobs) for knobs in ready.knobs()]
        machine, budget = ready.place.machine, 6 * 2**20
        slow = {"disk_rate": 1e7, "cached_disk_rate": 2e7, "memory_rate": 1e11}
        chosen = {
            plan(every, there, budget).footprint.rounding
            for there in (machine, machine.with_figures(slow, "learned"))
        }
        assert len(chosen) > 1

    def test_more_is_no_worse_by_what_is_known(self) -> None:
        """Among choices of one rounding, those are taken that are faster on the machine."""
        ready = prepared(TINY)
        place = ready.place
        taught = place.machine.with_figures({"disk_rate": 1e6, "cached_disk_rate": 1e6}, "learned")
        ready = attrs.evolve(ready, place=attrs.evolve(place, machine=taught))
        search = KnobSearch(ready)
        ends = search.plan(search.at(0), None)
        budget = (ends.minimum_bytes + ends.resident_bytes) // 2
        found = search.plan(search.at(budget), budget)
        profiler = KnobProfiler(ready, "cpu")
        alike = [
            footprint
            for footprint in map(profiler.footprint, ready.knobs())
            if footprint.rounding == found.footprint.rounding
        ]
        assert found.predicted_seconds <= plan(alike, taught, budget).predicted_seconds * 1.01
