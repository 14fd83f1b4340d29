"""Plans as the user sees them: what DESIGN promises of `plan --json`."""

import json
from itertools import pairwise

import attrs
import pytest

from wanflow.errors import WeightsError
from wanflow.session import plan
from wanflow.session.planning.planned import plan_prepared
from wanflow.session.preparing.place import find_place
from wanflow.session.preparing.prepare import prepare
from wanflow.units import GIB

REPORT = {
    "feasible": bool, "predicted_peak_bytes": int, "predicted_seconds": float,
    "minimum_bytes": int, "minimum_cause": str, "resident_bytes": int, "budget_bytes": int,
    "overhead_bytes": int, "graph": str, "device": str, "machine": str, "estimates": bool,
    "exact": bool, "plan_id": str, "weights": dict, "stages": list, "bound_seconds": float,
    "gap_percent": float, "depth": int, "host_bytes": int,
    "allocator_slack_bytes": int,
}  # fmt: skip
STAGE = {
    "stage": str, "op": str, "model": (str, type(None)), "steps": int, "peak_bytes": int,
    "seconds": float, "weights_bytes": int, "resident_weights_bytes": int,
    "streamed_bytes": int, "workspace_bytes": int, "segments": int, "resident_segments": int,
    "knobs": dict, "why": str, "waiting_seconds": float,
}  # fmt: skip
SWEEP = {
    "budget_bytes": int, "predicted_peak_bytes": int, "predicted_seconds": float, "feasible": bool,
}  # fmt: skip
BIG = ["t2v-1.3b", "t2v-14b"]


def assert_types(found, wanted):
    """At least these keys, each of its type; a bool is no int."""
    assert found.keys() >= wanted.keys()
    for key, kind in wanted.items():
        assert isinstance(found[key], kind), key
        assert kind is bool or not isinstance(found[key], bool), key


class TestReport:
    """The plan of the tiny graph."""

    @pytest.fixture
    def report(self, planned):
        return planned(vram="64MiB").report

    def test_types(self, report):
        """Bytes are ints, seconds floats."""
        assert_types(report, REPORT)

    def test_stage_types(self, report):
        """So they are in every stage."""
        for stage in report["stages"]:
            assert_types(stage, STAGE)

    def test_json(self, report):
        """It is JSON as it stands."""
        assert json.loads(json.dumps(report, allow_nan=False)) == report

    def test_stages(self, report):
        """Stages come in running order with their steps."""
        steps = {stage["stage"]: stage["steps"] for stage in report["stages"]}
        expected = [("encode", 1), ("noise", 1), ("denoise", 8), ("decode", 5), ("write", 1)]
        assert list(steps.items()) == expected

    def test_peak(self, report):
        """The peak is that of the largest stage and inside the budget."""
        largest = max(stage["peak_bytes"] for stage in report["stages"])
        assert report["predicted_peak_bytes"] == largest
        assert report["minimum_bytes"] <= largest <= report["budget_bytes"] == 64 << 20

    def test_seconds(self, report):
        """The stages' seconds make up the whole."""
        total = sum(stage["seconds"] for stage in report["stages"])
        assert report["predicted_seconds"] == pytest.approx(total)

    def test_repeats(self, request_for, planned, report):
        """The same request makes the same plan."""
        request = request_for(vram="64MiB")
        again = plan_prepared(prepare(request, find_place(request), to_run=False))
        assert again.report == report

    def test_files_are_left_alone(self, planned, tmp_path, monkeypatch):
        """Planning writes nothing."""
        monkeypatch.chdir(tmp_path)
        planned(vram="63MiB")
        assert not list(tmp_path.iterdir())


class TestBudget:
    """The minimum is exactly what is enough."""

    @pytest.fixture
    def least(self, planned):
        return planned(vram="64MiB").report["minimum_bytes"]

    def test_at_the_minimum(self, planned, least):
        """A budget of the minimum holds it."""
        found = planned(vram=f"{least}B")
        assert found.problem is None
        assert found.report["predicted_peak_bytes"] <= least

    def test_below_the_minimum(self, planned, least):
        """One byte less doesn't: exit 3, with the bytes that would and what needs them."""
        problem = planned(vram=f"{least - 1}B").problem
        assert problem is not None
        assert problem.exit_code == 3
        assert problem.detail["minimum_bytes"] == least
        assert str(least) in problem.message
        assert problem.hint.startswith(f"--vram {least}B")

    def test_below_is_still_reported(self, planned, least):
        """A plan that can't be run is printed whole all the same."""
        report = planned(vram=f"{least - 1}B").report
        assert_types(report, REPORT)
        assert not report["feasible"]
        assert report["minimum_bytes"] == least


@pytest.mark.parametrize("graph", BIG)
class TestWithoutWeights:
    """The real models are planned with neither weights nor a GPU."""

    def test_feasible(self, planned, graph):
        """The whole card holds it."""
        report = planned(graph, machine="rtx4090", vram="24GiB").report
        assert report["feasible"]
        assert report["predicted_peak_bytes"] <= 24 * GIB
        assert report["device"] == "cuda"
        assert report["weights"] == {"text": False, "dit": False, "vae": False}

    def test_infeasible(self, planned, graph):
        """A sliver of it doesn't; the minimum is the same as that of the whole card."""
        found = planned(graph, machine="rtx4090", vram="1GiB")
        whole = planned(graph, machine="rtx4090", vram="24GiB").report
        assert not found.report["feasible"]
        assert found.report["minimum_bytes"] == whole["minimum_bytes"] > GIB
        assert found.problem.detail["minimum_bytes"] == whole["minimum_bytes"]

    def test_can_not_run(self, request_for, graph):
        """Running needs weights: exit 4 before anything is planned."""
        request = request_for(graph)
        with pytest.raises(WeightsError, match="no weights for model 'text'"):
            prepare(request, find_place(request), to_run=True)


class TestRam:
    """The host beside a card."""

    def test_bounds_the_host(self, planned):
        """What the plan takes of it is within `--ram`."""
        report = planned("t2v-1.3b", machine="rtx4090", vram="20GiB", ram="2GiB").report
        assert 0 < report["host_bytes"] <= report["ram_bytes"] == 2 * GIB

    def test_too_small(self, planned):
        """Exit 3, naming the smallest that will do; and that one does."""
        options = {"machine": "rtx4090", "vram": "20GiB"}
        problem = planned("t2v-1.3b", **options, ram="100MiB").problem
        least = problem.detail["minimum_ram_bytes"]
        assert (problem.exit_code, problem.hint) == (3, f"--ram {least}B")
        assert str(least) in problem.message
        assert planned("t2v-1.3b", **options, ram=f"{least}B").problem is None
        assert planned("t2v-1.3b", **options, ram=f"{least - 1}B").problem is not None

    def test_on_a_cpu(self, planned):
        """There is none."""
        report = planned(vram="64MiB").report
        assert (report["host_bytes"], report["ram_bytes"]) == (0, None)

    def test_gap(self, planned):
        """How far the plan is from its busiest queue."""
        report = planned(vram="64MiB").report
        expected = 100 * (report["predicted_seconds"] / report["bound_seconds"] - 1)
        assert report["gap_percent"] == pytest.approx(expected)
        assert report["gap_percent"] >= 0


class TestOverhead:
    """What CUDA takes for itself."""

    def test_less_than_the_context(self, planned):
        """A budget below the context alone is too small in the same words as any other."""
        found = planned(machine="rtx4090", vram="100MB")
        assert found.problem.exit_code == 3
        assert found.report["minimum_bytes"] > found.report["overhead_bytes"] > 100_000_000


class TestSlack:
    """What CUDA's allocator loses is a line of the plan."""

    def test_on_a_card(self, planned):
        """Part of the peak, and a few percent of it at full size."""
        found = planned("t2v-14b", machine="rtx4090", vram="24GiB")
        made = found.plan
        assert 0 < made.slack_bytes < 0.05 * made.predicted_peak_bytes
        assert made.slack_bytes == found.report["allocator_slack_bytes"]

    def test_on_a_cpu(self, planned):
        """There is no such allocator."""
        assert planned().report["allocator_slack_bytes"] == 0

    def test_plain_segments_lose_more(self, request_for, planned, monkeypatch):
        """Who sets the allocator up otherwise is told what it costs."""
        options = {"machine": "rtx4090", "vram": "24GiB"}
        expandable = planned("t2v-1.3b", **options).report  # before the setting: it may be cached
        monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:False")
        plain = plan(request_for("t2v-1.3b", **options)).report
        assert plain["minimum_bytes"] > expandable["minimum_bytes"]


class TestDevice:
    """A plan is that of the machine it is for, not of the one it is made on."""

    def test_made_beside_a_gpu(self, request_for, planned):
        """Where there is a GPU nothing of the planning touches it."""
        options = {"machine": "rtx4090", "vram": "2GiB"}
        request = request_for(**options)
        place = attrs.evolve(find_place(request), device_name="cuda:0")
        found = plan_prepared(prepare(request, place, to_run=False))
        assert found.report == planned(**options).report


class TestSweep:
    """Plans from the minimum to where everything stays."""

    def test_types(self, swept):
        """A list of rows beside the plan itself."""
        assert_types(swept, {**REPORT, "sweep": list})
        for row in swept["sweep"]:
            assert_types(row, SWEEP)

    def test_ends(self, swept):
        """It goes from the minimum to all that can be used."""
        budgets = [row["budget_bytes"] for row in swept["sweep"]]
        assert (budgets[0], budgets[-1]) == (swept["minimum_bytes"], swept["resident_bytes"])

    def test_monotone(self, swept):
        """More room is never slower."""
        rows = swept["sweep"]
        assert len(rows) > 2
        for less, more in pairwise(rows):
            assert less["budget_bytes"] < more["budget_bytes"]
            assert less["predicted_seconds"] >= more["predicted_seconds"]

    def test_within(self, swept):
        """Every plan fits its budget."""
        for row in swept["sweep"]:
            assert row["feasible"]
            assert row["predicted_peak_bytes"] <= row["budget_bytes"]


class TestExact:
    """`--exact` is said in the plan."""

    def test_only_bitwise(self, planned):
        """Chosen knobs are bitwise ones."""
        found = planned(vram="64MiB", exact=True)
        assert found.report["exact"]
        assert all(facts.rounding == () for facts in found.plan.footprint.stages)
