"""A trace planned again: the plan of the graph, at any budget, and nothing worse of a bad trace."""

import itertools
import re
import tracemalloc

import attrs
import pytest

from wanflow.errors import BudgetError, InputError, TraceError
from wanflow.scheduler.run.simulator import simulate
from wanflow.session import replay, run
from wanflow.session.planning.record import record_footprints
from wanflow.trace import TraceReader, TraceWriter, inspect, read
from wanflow.trace.events import FootprintRows, Workspace

MIB = 2**20


def simulated(planned, path):
    """Write the trace that a plan predicts."""
    header = {"graph": planned.report["graph"], "simulated": True}
    with TraceWriter(path, header) as writer:
        record_footprints(planned, writer)
        simulate(planned.plan, planned.prepared.place.tier, writer)
        writer.close("done", {})
        assert writer.problem is None
    return path


def written(path, events, header=None):
    """Write events into a trace."""
    with TraceWriter(path, header or {"simulated": True}) as writer:
        for event in events:
            writer.emit(event)
    return path


@pytest.fixture(scope="module")
def tiny(planned, tmp_path_factory):
    """Give the trace of a simulated run of the tiny graph."""
    return simulated(planned(vram="24MiB"), tmp_path_factory.mktemp("tiny") / "trace.msgpack")


@pytest.fixture(scope="module")
def ran(request_for, tmp_path_factory, no_stored_machine):
    """Run the tiny graph; what it teaches of the machine is not kept from the tests before."""
    folder = tmp_path_factory.mktemp("ran") / "run"
    request = request_for(inputs={"prompt": "a red circle moves right"}, vram="24MiB")
    return run(request, out=folder)


class TestSamePlan:
    """What the graph would be planned as."""

    @pytest.mark.parametrize("vram", ["24MiB", "9MiB", "8MiB", "7MiB"])
    def test_tiny_at_another_budget(self, tiny, planned, vram) -> None:
        """Every move, the peak to the byte, and the time."""
        wanted, found = planned(vram=vram), replay(tiny, vram=vram)
        stages = [s["resident_weights_bytes"] for s in wanted.report["stages"]]

        assert found.plan.turns == wanted.plan.turns
        assert [s["resident_weights_bytes"] for s in found.report["stages"]] == stages
        same = found.report.keys() & wanted.report.keys() - {"device"}
        assert {n: found.report[n] for n in same} == {n: wanted.report[n] for n in same}
        assert len(same) > 20

    @pytest.mark.parametrize("other", [{"vram": "3900MiB"}, {"machine": "rtx4060", "vram": "6GiB"}])
    def test_a_model_of_a_billion_on_another_card(self, planned, tmp_path, other) -> None:
        """Neither weights nor a card are here."""
        asked = {"machine": "rtx4090", "vram": "8GiB"}
        trace = simulated(planned("t2v-1.3b", **asked), tmp_path / "trace.msgpack")
        wanted, found = planned("t2v-1.3b", **{**asked, **other}), replay(trace, **other)

        assert found.plan.turns == wanted.plan.turns
        assert found.report["plan_id"] == wanted.report["plan_id"]
        assert found.report["predicted_peak_bytes"] == wanted.report["predicted_peak_bytes"]
        assert found.plan.predicted_seconds == pytest.approx(wanted.plan.predicted_seconds)
        assert found.report["ram_bytes"] == wanted.report["ram_bytes"]

    def test_the_budget_that_was_recorded_is_the_default(self, tiny, planned) -> None:
        """The plan is the recorded one."""
        assert replay(tiny).report["plan_id"] == planned(vram="24MiB").report["plan_id"]

    def test_pins_hold(self, planned, tmp_path) -> None:
        """They were recorded, too."""
        pins = ("denoise.weights=stream",)
        trace = simulated(planned(vram="24MiB", pins=pins), tmp_path / "trace.msgpack")
        assert replay(trace).plan.turns == planned(vram="24MiB", pins=pins).plan.turns
        assert replay(trace, vram="9MiB").plan.turns == planned(vram="9MiB", pins=pins).plan.turns


class TestRealRun:
    """A run that was measured."""

    def test_the_footprints_are_those_it_was_planned_from(self, ran, planned) -> None:
        """So are the peak and what stays, at another budget."""
        wanted, found = planned(vram="8MiB"), replay(ran_trace(ran), vram="8MiB")
        mine = [stage.resident_weights_bytes for stage in found.plan.stages]

        assert found.plan.predicted_peak_bytes == wanted.plan.predicted_peak_bytes
        assert mine == [stage.resident_weights_bytes for stage in wanted.plan.stages]

    def test_calls_take_what_they_took(self, ran) -> None:
        """Added up again from the events, with what lies between two of them, as usual."""
        found = replay(ran_trace(ran))
        spans = [e for e in read(ran["trace"]) if isinstance(e, Workspace)]
        least = sum(e.ended_ns - e.began_ns for e in spans) / 1e9
        between = [b.began_ns - a.ended_ns for a, b in itertools.pairwise(spans)]
        compute = sum(found.plan.timeline.compute)

        assert found.report["times"] == "measured"
        assert found.report["measured_calls"] == found.report["calls"] == len(spans)
        assert least <= compute <= least + len(spans) * max(between) / 1e9

    def test_a_cut_run_is_planned_with_what_was_measured(self, ran, tmp_path) -> None:
        """The state of the trace is told."""
        data = ran_trace(ran).read_bytes()
        (tmp_path / "cut.msgpack").write_bytes(data[: len(data) * 2 // 3])
        found = replay(tmp_path / "cut.msgpack")

        assert 0 < found.report["measured_calls"] < found.report["calls"]
        assert found.report["recorded"]["state"] == "cut"
        assert found.report["recorded"]["problem"]

    def test_the_footprint_stands_first_in_a_few_records(self, ran) -> None:
        """A few records, and no event left out."""
        events = list(read(ran["trace"]))
        parts = [e for e in events if isinstance(e, FootprintRows)]

        assert events[: len(parts)] == parts
        assert 5 < len(parts) <= len(events) / 50
        assert ran["trace_problem"] is None


def ran_trace(report):
    """Give the path of a run's trace."""
    from pathlib import Path

    return Path(report["trace"])


class TestRefused:
    """What can't be planned again is told in one message."""

    def test_a_budget_that_is_too_small(self, tiny, planned) -> None:
        """With the smallest that is not."""
        found = replay(tiny, vram="1MiB")
        assert isinstance(found.problem, BudgetError)
        assert found.problem.detail["minimum_bytes"] == planned(vram="1MiB").report["minimum_bytes"]

    def test_a_machine_of_another_kind(self, tiny) -> None:
        """What a call takes on a card is not in a CPU's trace."""
        with pytest.raises(InputError, match="is a CUDA card") as caught:
            replay(tiny, machine="rtx4060")
        assert "wanflow plan" in caught.value.hint

    def test_a_trace_without_footprint(self, tmp_path) -> None:
        """An older one."""
        trace = written(tmp_path / "t.msgpack", [Workspace("a", "s", 0, "cpu", 1, 1, 0, 1)])
        with pytest.raises(TraceError, match="holds no footprint") as caught:
            replay(trace)
        assert caught.value.exit_code == 4

    def test_a_trace_cut_before_its_footprint_is_whole(self, tiny, tmp_path) -> None:
        """At any of its records; after them all is well."""
        events = [e for e in read(tiny) if isinstance(e, FootprintRows)]
        for count in range(len(events)):
            trace = written(tmp_path / f"{count}.msgpack", events[:count])
            with pytest.raises(TraceError, match=r"cut before|no footprint"):
                replay(trace)
        assert replay(written(tmp_path / "all.msgpack", events)).plan.feasible

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda events: [events[0], *events], "announced twice"),
            (lambda events: events[1:], "not announced"),
            (lambda events: [attrs.evolve(events[0], rows=("[]",)), *events[1:]], "no machine"),
            (lambda events: [attrs.evolve(events[0], rows=("{",)), *events[1:]], "no JSON"),
            (lambda events: [about(events[0], r'"ran":\d', '"ran":7'), *events[1:]], "ran is not"),
            (
                lambda events: [about(events[0], '"pins":{}', '"pins":{"a":[]}'), *events[1:]],
                "pins",
            ),
            (lambda events: [about(events[0], '"gemm.', '"germ.'), *events[1:]], "is not a field"),
            (lambda events: [about(events[0], '"variants":', '"variants":9')], "variants is not"),
            (lambda events: [*events, events[-1]], "after the last"),
            (lambda events: [events[0], attrs.evolve(events[1], variant=2**60)], "not announced"),
        ],
    )
    def test_rows_that_no_run_writes(self, tiny, tmp_path, change, problem) -> None:
        """The file is named."""
        events = [e for e in read(tiny) if isinstance(e, FootprintRows)]
        trace = written(tmp_path / "t.msgpack", change(events))
        with pytest.raises(TraceError, match=problem) as caught:
            replay(trace)
        assert str(trace) in caught.value.message

    def test_endless_rows_take_bounded_memory(self, tiny, tmp_path) -> None:
        """However many records claim to be a footprint."""
        first = next(e for e in read(tiny) if isinstance(e, FootprintRows))
        many = (f'["{"x" * 40}{number}",1]' for number in range(10**9))
        with TraceWriter(tmp_path / "t.msgpack", {"simulated": True}) as writer:
            writer.emit(first)
            for _ in range(100):
                rows = tuple(next(many) for _ in range(4000))
                writer.emit(FootprintRows(0, "segment", rows))
        tracemalloc.start()
        with pytest.raises(TraceError, match="than any run has"):
            replay(tmp_path / "t.msgpack")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert inspect(tmp_path / "t.msgpack").file_bytes > 20 * MIB
        assert peak < 32 * MIB


def about(event, old, new):
    """Change the text of the first record."""
    row, times = re.subn(old, new, event.rows[0], count=1)
    assert times == 1
    return attrs.evolve(event, rows=(row,))


def test_older_readers_skip_and_count_the_records(tiny, monkeypatch) -> None:
    """A kind of event that is not known is no damage."""
    from wanflow.trace import codec

    kinds = {tag: layout for tag, layout in codec._BY_TAG.items() if tag != "footprint"}
    monkeypatch.setattr(codec, "_BY_TAG", kinds)
    with TraceReader(tiny) as reader:
        events = list(reader)
        info = reader.info()

    assert not any(isinstance(e, FootprintRows) for e in events)
    assert (str(info.state), info.skipped > 5) == ("whole", True)
