"""The budget is hard: what torch.profiler counts never passes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import torch

from tests.jobs import MeasuredRuns, budgets
from wanflow.errors import BudgetError
from wanflow.session import Request, plan, run

INPUTS = {"steps": 8 if os.environ.get("SOAK") else 2}
TEN = range(10)
# The ends and one between; the others are of the second lane.
SOME = [n if n in {0, 4, 9} else pytest.param(n, marks=pytest.mark.wide) for n in TEN]


def job(budget_bytes: int, **inputs: int) -> Request:
    """A short run of the tiny graph inside *budget_bytes*."""
    return Request("t2v-tiny", {**INPUTS, **inputs}, device="cpu", vram=f"{budget_bytes}B")


def prompted(words: int) -> dict[str, object]:
    """The inputs of a prompt of so many words."""
    return {**INPUTS, "prompt": "word " * words}


@pytest.fixture(scope="module")
def three() -> tuple[int, int, int]:
    """Resident peak, halfway, minimum."""
    return budgets(Request("t2v-tiny", INPUTS, device="cpu"))


@pytest.fixture(scope="module")
def ten(three: tuple[int, int, int]) -> list[int]:
    """Ten budgets from the minimum to where everything stays, at equal distances."""
    most, _, least = three
    return [least + (most - least) * n // TEN[-1] for n in TEN]


class TestMeasuredPeak:
    """The measure shares no code with profiler, planner or ledger."""

    @pytest.mark.parametrize("which", SOME)
    def test_never_passes_the_budget(
        self, ten: list[int], which: int, measured_runs: MeasuredRuns
    ) -> None:
        """Peak of all allocations <= budget, and within 3 % of the prediction."""
        measured_runs(job(ten[which])).assert_within(ten[which])

    @pytest.mark.parametrize(
        "which", [0, pytest.param(9, marks=pytest.mark.wide)], ids=["minimum", "resident"]
    )
    def test_blocks_in_parts(self, ten: list[int], which: int, measured_runs: MeasuredRuns) -> None:
        """Nor does it where every block is run in three parts."""
        request = attrs.evolve(job(ten[which]), pins=("denoise.split=parts",))
        measured_runs(request).assert_within(ten[which])

    def test_the_budgets_differ(self) -> None:
        """They are not one plan ten times: more is kept where there is more room."""
        whole = Request("t2v-tiny", INPUTS, device="cpu", pins=("decode.strips=whole",))
        most, _, least = budgets(whole)
        rooms = [least + (most - least) * n // TEN[-1] for n in TEN]
        asked = [attrs.evolve(whole, vram=f"{room}B") for room in rooms]
        peaks = [plan(each).plan.predicted_peak_bytes for each in asked]
        assert peaks == sorted(peaks)
        assert len(set(peaks)) >= 5

    @pytest.mark.parametrize("strips", ["frames.2", "strips.2"])
    def test_in_strips(self, strips: str, measured_runs: MeasuredRuns) -> None:
        """The same of a decoder in strips, where it is what needs most."""
        pins = (f"decode.strips={strips}",)
        least = budgets(Request("t2v-tiny", INPUTS, device="cpu", pins=pins))[2]
        request = Request("t2v-tiny", INPUTS, device="cpu", vram=f"{least}B", pins=pins)
        measured_runs(request).assert_within(least)

    def test_run_reports_what_was_tracked(
        self, ten: list[int], measured_runs: MeasuredRuns
    ) -> None:
        """run.json has the tracked peak, and it is the one that was predicted."""
        run = measured_runs(job(ten[0]))
        report = json.loads((Path(str(run.report["out"])) / "run.json").read_text())
        assert report["peak_source"] == "tracked"
        assert 0.97 * report["predicted_peak_bytes"] <= report["peak_bytes"] <= ten[0]


@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="no tiles here")
class TestTiles:
    """AMX takes more for bf16 than the other instructions, to which these tests are held."""

    @pytest.mark.parametrize("threads", ["1", pytest.param("2", marks=pytest.mark.wide)])
    def test_never_passes_the_budget(self, threads: str, tmp_path: Path) -> None:
        """In a process that may use it: never above the prediction, at most 5 % below it."""
        given = {
            "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX", "OMP_NUM_THREADS": threads,
            "XDG_CACHE_HOME": str(tmp_path),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "tests.tiled_run"],
            cwd=Path(__file__).parent.parent, env={**os.environ, **given},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [line.split() for line in done.stdout.splitlines()]
        told = [tuple(map(int, words)) for words in lines if all(map(str.isdigit, words))]
        assert len(told) == 3
        for budget, predicted, measured in told:
            assert 0.95 * predicted <= measured <= predicted <= budget


class TestTooSmall:
    """One byte below the minimum."""

    def test_is_refused_before_anything_runs(
        self, three: tuple[int, int, int], tmp_path: Path
    ) -> None:
        """Exit code 3, the minimum and what needs it, and no run folder."""
        least = three[2]
        with pytest.raises(BudgetError, match=str(least)) as caught:
            run(job(least - 1), out=tmp_path / "run")
        assert caught.value.exit_code == 3
        assert caught.value.detail["minimum_bytes"] == least
        stage = plan(job(least)).plan.minimum_stage
        assert str(caught.value.detail["needed_by"]).startswith(stage)
        assert not (tmp_path / "run").exists()

    def test_plan_is_infeasible_and_says_the_minimum(self, three: tuple[int, int, int]) -> None:
        """`plan` does not raise: its report says so."""
        planned = plan(job(three[2] - 1))
        assert planned.report["feasible"] is False
        assert planned.report["minimum_bytes"] == three[2]
        assert planned.problem is not None

    def test_a_longer_prompt_needs_no_less(self) -> None:
        """The longest needs what every prompt is planned at with `--exact`."""
        counts = (1, 40, 600)
        asked = [Request("t2v-tiny", prompted(count), device="cpu") for count in counts]
        least = [budgets(each)[2] for each in asked]
        exact = [budgets(attrs.evolve(each, exact=True))[2] for each in asked]
        assert least == sorted(least)
        assert exact == [exact[0]] * len(counts)
        pinned = attrs.evolve(asked[0], pins=("encode.tokens=all",))
        assert least[-1] <= budgets(pinned)[2] <= exact[0]

    def test_longest_prompt(self, measured_runs: MeasuredRuns) -> None:
        """512 tokens fit into 6 MiB: the encoder attends a head at a time."""
        longest = attrs.evolve(job(6 << 20), inputs=prompted(512))
        assert budgets(attrs.evolve(longest, vram="auto"))[2] <= 6 << 20
        measured_runs(longest).assert_within(6 << 20)
