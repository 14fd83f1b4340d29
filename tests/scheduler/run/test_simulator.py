"""A simulated run: the plan's peak, the plan's seconds, nothing lost and nothing left."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scheduler.brute import machine
from tests.scheduler.footprints import FOOTPRINTS, TOY
from wanflow.scheduler.plan.planner import plan
from wanflow.scheduler.run.simulator import simulate
from wanflow.trace import MemorySink, TraceWriter, summarise
from wanflow.trace.events import Kind, Move, Step, Transfer, Verb, Workspace

RATIOS = st.floats(-7, -3).map(lambda power: 10**power)
MACHINES = st.builds(machine, st.just(TOY), st.sampled_from(["cpu", "cuda"]), RATIOS, RATIOS)
TIER = "device"


def check(found) -> list:
    """Simulate *found* and hold the events to the plan; return them."""
    sink = MemorySink()
    ledger = simulate(found, TIER, sink)
    levels: dict[str, int] = {}
    for event in sink.events:
        if isinstance(event, Move):
            change = -event.nbytes if event.verb is Verb.FREE else event.nbytes
            levels[event.tier] = levels.get(event.tier, 0) + change
            assert event.resident_bytes == levels[event.tier]
        if isinstance(event, Workspace):
            assert event.resident_bytes == levels.get(event.tier, 0) + event.nbytes
    ledger.check_integrity()
    kept = {m.value: m.nbytes for s in found.footprint.calls for m in s.makes}
    left = sum(n for value, n in kept.items() if value in found.footprint.keeps)
    assert {tier: n for tier, n in levels.items() if n} == ({TIER: left} if left else {})
    assert ledger.peak_bytes(TIER) == found.predicted_peak_bytes
    host_bytes = found.host.nbytes + found.host.staging_bytes
    if host_bytes:
        assert ledger.peak_bytes("host") <= host_bytes
    assert ledger.now_ns() / 1e9 == pytest.approx(found.predicted_seconds, abs=2e-9)
    return sink.events


class TestRandom:
    """Any footprint, any budget."""

    @settings(max_examples=300, deadline=None)
    @given(FOOTPRINTS, MACHINES, st.integers(0, 600), st.one_of(st.none(), st.integers(0, 400)))
    def test_is_what_was_planned(self, footprint, like, budget, ram) -> None:
        """An infeasible plan is played too: it is the smallest."""
        found = plan([footprint], like, budget, None, ram)
        events = check(found)

        waited = sum(e.waited_ns for e in events if isinstance(e, Transfer)) / 1e9
        assert waited == pytest.approx(sum(found.timeline.waits), abs=1e-6)
        left = sum(e.waited_ns for e in events if isinstance(e, Move)) / 1e9
        assert left == pytest.approx(sum(found.timeline.leaving), abs=1e-6)
        arrived = [e for e in events if isinstance(e, Transfer)]
        brings = [move for turn in found.turns for move in turn.brings]
        assert len(arrived) == sum(len(move.values) or 1 for move in brings)

    @settings(max_examples=100, deadline=None)
    @given(FOOTPRINTS, MACHINES)
    def test_loads_come_from_where_the_plan_says(self, footprint, like) -> None:
        """A cached segment comes from the disk once; on a CPU there is no host to come from."""
        found = plan([footprint], like, plan([footprint], like, None).minimum_bytes)
        moves = [e for e in check(found) if isinstance(e, Move) and e.kind is Kind.WEIGHTS]
        near = {e.name for e in moves if e.tier == TIER and e.source == "host"}

        assert near == found.host.cached


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Plan a shipped graph without weights or GPU."""
    from wanflow.session import Request
    from wanflow.session import plan as plan_request

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield lambda *graph, **options: plan_request(Request(*graph, **options)).plan


GRAPHS = [
    ("t2v-tiny", {"device": "cpu", "vram": "24MiB"}),
    ("t2v-1.3b", {"machine": "rtx4090", "vram": "24GiB"}),
    ("t2v-1.3b", {"machine": "rtx4090", "vram": "12GiB", "ram": "2GiB"}),
]


class TestShipped:
    """Graphs that users run."""

    @pytest.mark.parametrize(("graph", "options"), GRAPHS)
    def test_trace_says_what_the_plan_does(self, planned, tmp_path, graph, options) -> None:
        """Written to a file and summed up like that of a run."""
        found = planned(graph, **options)
        check(found)
        header = {
            "simulated": True, "budget_tier": TIER, "budget_bytes": found.budget_bytes,
            "stages": [stage.stage for stage in found.stages],
            "predicted_peak_bytes": found.predicted_peak_bytes,
            "predicted_seconds": found.predicted_seconds,
        }  # fmt: skip
        path = Path(tmp_path) / "trace.msgpack"
        with TraceWriter(path, header) as writer:
            simulate(found, TIER, writer)
            writer.close("done", {"seconds": found.predicted_seconds})
        summary = summarise(path)

        assert (summary.state, summary.simulated) == ("whole", True)
        assert summary.peak_bytes == summary.predicted_peak_bytes == found.predicted_peak_bytes
        assert summary.seconds == pytest.approx(found.predicted_seconds, abs=1e-6)
        ran = [s.stage for s in summary.stages if s.stage]  # buffers for all reads have no stage
        assert ran == [s.stage for s in found.stages]

    def test_steps_are_those_of_the_graph(self, planned) -> None:
        """One event at the end of each."""
        found = planned("t2v-tiny", device="cpu", vram="24MiB")
        ends = [(e.stage, e.index) for e in check(found) if isinstance(e, Step)]

        assert sorted(set(ends)) == sorted({(s.stage, s.step) for s in found.footprint.calls})
